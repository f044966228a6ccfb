"""The paper's two toy problems, with the truth by sums over a grid.

    python benchmarks/bench_paper_toys.py [--part NAME ...] [--seeds 5] [--table]

Splitting the normal (section 7.1): x ~ N(0, 1), a normal p(x|z) whose mean and variance
depend on z. Unif[10] (section 7.2): ten categories, each equally often. One latent
component, one torch thread. Of each fit: the information I(x, z) and the negative
log-likelihood under the true q(x) by sums over a grid of codes (only
``conditional_log_prob`` is used), the encoder's bound, the rate, and for the
categories the mean of KL(encoder || true posterior).

Parts: ``ours`` (constraint="both", the defaults), ``rules`` (constraints "model" and
"paper", and M=None), ``networks`` (the poster's networks), ``ablation`` (over C),
``collapse`` (M=None on Unif[10]: I over the steps), ``gradients`` (variance and time of
each strategy). Fits that the CSV has are not run again (``collapse`` and ``gradients``
are); ``--table`` only summarises it.
"""

import argparse
import csv
import math
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rows import RESULTS, Results, messages, timed_fit
from scipy.special import logsumexp
from scipy.stats import norm
from skorch.callbacks import Callback
from torch import nn
from torch.distributions import Independent, Normal

from sklearn_mae import MutualAutoencoder
from sklearn_mae.datasets import make_split_normal, make_uniform_categories
from sklearn_mae.gradients import Enumeration, Reinforce, Reparametrised
from sklearn_mae.information import infomax
from sklearn_mae.model import draw

LOG_10 = math.log(10)
TARGETS = {
    "normal": [0, 0.4, 0.8, 1.2, 2.0],
    "categories": [0, 0.5, 1, 1.5, 2, round(LOG_10, 4)],
}
EXACT = {"normal": 0.5 * math.log(2 * math.pi * math.e), "categories": LOG_10}
FIELDS = (
    "toy network encoder constraint M C seed information nll bound rate kl "
    "low high multiplier seconds warning"
).split()
# grid of codes, and the logarithms of their prior masses
Z = np.linspace(-7, 7, 4_001)
LOG_MASS = norm.logpdf(Z) + math.log(Z[1] - Z[0])


class PosterEncoder(nn.Module):
    """The poster's encoder of categories: a normal distribution, by two layers."""

    def __init__(self, n_features, n_components):
        super().__init__()
        self.hidden = nn.Linear(n_features, 128)
        self.out = nn.Linear(128, 2 * n_components)

    def forward(self, features):
        mean, log_scale = self.out(
            torch.nn.functional.silu(self.hidden(features))
        ).chunk(2, -1)
        return Independent(Normal(mean, log_scale.clamp(-12, 4).exp()), 1)


def rows_of(toy: str, seed: int) -> np.ndarray:
    """Draw the rows of a fit."""
    if toy == "normal":
        return make_split_normal(20_000, random_state=seed).data
    return make_uniform_categories(5_120, n_categories=10, random_state=seed).data


def estimator(toy, network="paper", encoder="resampling", **parameters):
    """Return an estimator for one of the toys; all else is at its default."""
    likelihood = {"normal": "heteroscedastic", "categories": "categorical"}[toy]
    parameters = {"n_components": 1, "likelihood": likelihood, **parameters}
    if network == "poster":
        parameters["hidden_layer_sizes"] = (128,)
        if toy == "categories":
            return MutualAutoencoder(
                encoder=PosterEncoder,
                n_resamples=1 if encoder == "gaussian" else 5,
                **parameters,
            )
    return MutualAutoencoder(encoder=encoder, **parameters)


def log_conditionals(mae, toy) -> tuple[np.ndarray, np.ndarray]:
    """Return points of x and log p(x|z) for all points and codes, (points, codes)."""
    if toy == "categories":
        x = np.arange(10)
        X, codes = (a.reshape(-1, 1) for a in np.meshgrid(x, Z, indexing="ij"))
        return x, mae.conditional_log_prob(X, codes).reshape(10, len(Z))
    # three points of a normal log-density give its mean and variance
    values = [
        mae.conditional_log_prob(np.full((len(Z), 1), x), Z[:, np.newaxis])
        for x in (-1.0, 0.0, 1.0)
    ]
    precision = 2 * values[1] - values[0] - values[2]
    mean = (values[2] - values[0]) / (2 * precision)
    x = np.linspace(-8, 8, 6_401)
    return x, norm.logpdf(x[:, np.newaxis], mean, precision**-0.5)


def truth(mae, toy) -> tuple[float, float, np.ndarray]:
    """Return a model's information and negative log-likelihood; log p(x, z)."""
    x, log_p = log_conditionals(mae, toy)
    step = 1.0 if toy == "categories" else x[1] - x[0]
    log_joint = log_p + LOG_MASS
    log_marginal = logsumexp(log_joint, axis=1)
    joint = np.exp(log_joint)
    information = step * (joint * (log_p - log_marginal[:, np.newaxis])).sum()
    q = np.full(10, 0.1) if toy == "categories" else norm.pdf(x)
    return float(information), float(-step * (q * log_marginal).sum()), log_joint


def encoder_kl(mae, log_joint) -> float:
    """Mean over the categories of KL(q(z|x) || p(z|x)), by sums."""
    log_posterior = log_joint - logsumexp(log_joint, axis=1, keepdims=True)
    log_posterior = (log_posterior - math.log(Z[1] - Z[0]))[:, ::2]
    codes = Z[::2]
    X = np.repeat(np.arange(10), len(codes))[:, np.newaxis]
    log_q = mae.posterior_log_prob(X, np.tile(codes, 10)[:, np.newaxis])
    log_q = log_q.reshape(10, len(codes))
    density = np.exp(log_q)
    kl = (density * (log_q - log_posterior)).sum(axis=1) / density.sum(axis=1)
    return float(kl.mean())


@torch.no_grad()
def mean_bound(mae, X) -> float:
    """Mean of the encoder's bound, for few different rows.

    It takes 2,000 sets of draws for each: ``score`` takes few, and averages over rows.
    """
    model, rule = mae.net_.module_, mae.net_.rule
    x = torch.tensor(X)
    q = model.q(x)
    z = draw(q, (2_000, rule.n_draws), torch.Generator().manual_seed(0))
    return float(rule.bound(model, x, q, z).elbo.mean())


def run(toy, network, encoder, constraint, M, C, seed) -> dict:
    """Return the row of one fit."""
    X = rows_of(toy, seed)
    mae = estimator(
        toy,
        network,
        encoder,
        M=M,
        C=C,
        constraint="both" if constraint == "none" else constraint,
        random_state=seed,
    )
    seconds, caught = timed_fit(mae, X, time.perf_counter)
    information, nll, log_joint = truth(mae, toy)
    low, high = mae.mutual_info_interval_
    categories = np.arange(10)[:, np.newaxis]
    bound = mae.score(X[:5_000]) if toy == "normal" else mean_bound(mae, categories)
    return {
        "toy": toy,
        "network": network,
        "encoder": encoder,
        "constraint": constraint,
        "M": "" if M is None else f"{M:g}",
        "C": f"{C:g}",
        "seed": seed,
        "information": f"{information:.5f}",
        "nll": f"{nll:.5f}",
        "bound": f"{bound:.5f}",
        "rate": f"{mae.rate(X[:5_000]).mean():.4f}",
        "kl": f"{encoder_kl(mae, log_joint):.5f}" if toy == "categories" else "",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "multiplier": f"{mae.history_['multiplier_model'][-1]:.3f}",
        "seconds": f"{seconds:.1f}",
        "warning": messages(caught),
    }


def cases_of(part: str, seeds: int):
    """Yield the fits of a part: arguments of ``run``."""
    encoders = {"normal": ["resampling"], "categories": ["resampling", "gaussian"]}
    usual = {"network": "paper", "encoder": "resampling", "constraint": "both", "C": 10}
    for seed in range(seeds):
        for toy, Ms in TARGETS.items():
            case = {**usual, "toy": toy, "seed": seed}
            if part == "ours":
                for M in Ms:
                    for encoder in encoders[toy]:
                        yield {**case, "M": M, "encoder": encoder}
            elif part == "rules":
                for encoder in encoders[toy]:
                    yield {**case, "M": None, "encoder": encoder, "constraint": "none"}
                for constraint in ("paper", "model"):
                    for M in Ms:
                        yield {**case, "M": M, "constraint": constraint}
            elif part == "networks":
                case["network"] = "poster"
                case["encoder"] = encoders[toy][-1]
                for constraint in ("both", "paper"):
                    for M in Ms:
                        yield {**case, "M": M, "constraint": constraint}
            elif part == "ablation":
                # the Gaussian encoder's bound falls as I rises
                M = {"normal": 1.2, "categories": 2}[toy]
                case["encoder"] = encoders[toy][-1]
                for constraint in ("both", "paper"):
                    for C in (0.1, 0.3, 1, 3, 10):
                        yield {**case, "M": M, "C": C, "constraint": constraint}


class Trajectory(Callback):
    """Record I(x, z) of a model of categories at certain steps."""

    def __init__(self, steps=()):
        self.steps = steps

    def on_epoch_end(self, net, **kwargs):
        due = [step for step in self.steps if step <= net.step_]
        known = net.history[:, "exact"] if len(net.history) > 1 else []
        net.history.record("exact", math.nan)
        if len([value for value in known if value == value]) < len(due):
            with torch.no_grad():
                z = torch.tensor(Z, dtype=torch.float32)[:, None]
                log_p = net.module_.likelihood(z).log_probs[:, 0].double().numpy().T
            log_marginal = logsumexp(log_p + LOG_MASS, axis=1, keepdims=True)
            value = (np.exp(log_p + LOG_MASS) * (log_p - log_marginal)).sum()
            net.history.record("exact", float(value))


def collapse(path: Path, seeds: int) -> None:
    """Fit M=None to Unif[10]; write how I(x, z) falls over the steps."""
    steps = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["encoder", "seed", *steps])
        for encoder in ("gaussian", "resampling"):
            for seed in range(seeds):
                mae = estimator(
                    "categories",
                    encoder=encoder,
                    M=None,
                    max_epochs=steps[-1] // 40,
                    random_state=seed,
                    callbacks=[Trajectory(steps)],
                ).fit(rows_of("categories", seed))
                values = [v for v in mae.net_.history[:, "exact"] if v == v]
                row = [encoder, seed, *(f"{v:.4f}" for v in values)]
                writer.writerow(row)
                file.flush()
                print(row, flush=True)


def gradients(path: Path, repeats: int = 300) -> None:
    """Write variance and time of each strategy's gradient of the infomax bound."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        header = ["toy", "strategy", "relative_variance", "milliseconds"]
        writer.writerow(header)
        print("|", " | ".join(header), "|")
        for toy in TARGETS:
            mae = estimator(toy, M=1.0, random_state=0).fit(rows_of(toy, 0))
            model = mae.net_.module_
            strategies = {
                "REINFORCE, as in the paper": Reinforce(leave_one_out=False),
                "REINFORCE, leave-one-out": Reinforce(),
            }
            if toy == "normal":
                strategies["reparametrised"] = Reparametrised()
            else:
                outcomes = model.likelihood.outcomes()
                strategies["enumeration"] = Enumeration(outcomes)
            parameters = list(model.likelihood.parameters())
            for name, strategy in strategies.items():
                generator = torch.Generator().manual_seed(0)
                gradient = partial(one_gradient, model, parameters, strategy, generator)
                gradient()  # the first call loads and compiles
                start = time.perf_counter()
                draws = torch.stack([gradient() for _ in range(repeats)])
                seconds = (time.perf_counter() - start) / repeats
                mean = draws.mean(0)
                variance = draws.var(0).sum()
                # the squared norm of the mean, without the bias by its noise
                squared_norm = mean.square().sum() - variance / repeats
                ratio = variance / squared_norm
                row = [toy, name, f"{ratio:.3g}", f"{1e3 * seconds:.2f}"]
                writer.writerow(row)
                file.flush()
                print("|", " | ".join(row), "|", flush=True)


def one_gradient(model, parameters, strategy, generator, n=128):
    """Gradient of the mean infomax bound from n codes, as one vector."""
    z0 = torch.randn((n, 1), generator=generator)
    p = model.likelihood(z0)

    def bound(x, log_prob):
        return (infomax(model.r(x), z0, model.prior),)

    (values,) = strategy.expectation(p, bound, generator)
    parts = torch.autograd.grad(values.mean(), parameters)
    return torch.cat([part.flatten() for part in parts])


def worst(values) -> str:
    return f"{max(values):.4f}"


def table(rows) -> None:
    """Print one line for each setting, over its seeds."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in FIELDS[:6])].append(row)
    print(
        "| toy | network | encoder | constraint | M | C | fits | I | worst \\|I - M\\| "
        "| worst NLL | bound | KL(encoder, posterior) | multiplier | s |"
    )
    print("|---" * 14 + "|")
    for setting, group in sorted(groups.items()):
        column = {n: [float(r[n]) for r in group if r[n] != ""] for n in FIELDS[7:-1]}
        M = setting[4]
        missed = worst([abs(v - float(M)) for v in column["information"]]) if M else "-"
        kl = f"{np.mean(column['kl']):.3f}" if column["kl"] else "-"
        print(
            "|",
            " | ".join(setting),
            f"| {len(group)} | {min(column['information']):.4f} .. "
            f"{max(column['information']):.4f} | {missed} | {worst(column['nll'])} | "
            f"{np.mean(column['bound']):.4f} | {kl} | "
            f"{np.mean(column['multiplier']):.2f} | "
            f"{np.median(column['seconds']):.0f} |",
        )
    verdicts(rows)


def verdicts(rows) -> None:
    """Print what Theorem 2 and Fig. 4 claim, paired over seeds."""
    categories = [r for r in rows if r["toy"] == "categories"]
    gaussian = [
        float(r["bound"])
        for r in categories
        if r["encoder"] == "gaussian" and float(r["information"]) > 0.05
    ]
    if gaussian:
        below = sum(bound < -LOG_10 for bound in gaussian)
        print(
            "\nTheorem 2: with the Gaussian encoder the ELBO is below -log 10 in "
            f"{below} of {len(gaussian)} fits with I > 0.05"
        )
    pairs = defaultdict(dict)
    for r in categories:
        default = (r["network"], r["C"], r["constraint"]) == ("paper", "10", "both")
        if default and r["M"] != "0":
            pairs[r["M"], r["seed"]][r["encoder"]] = r
    pairs = {k: v for k, v in pairs.items() if len(v) == 2}
    by_M = defaultdict(list)
    for (M, _), both in pairs.items():
        gaps = {name: -LOG_10 - float(r["bound"]) for name, r in both.items()}
        kls = {name: float(r["kl"]) for name, r in both.items()}
        by_M[M].append(
            (
                gaps["resampling"] / gaps["gaussian"],
                kls["resampling"] / kls["gaussian"],
                float(both["resampling"]["information"])
                - float(both["gaussian"]["information"]),
            )
        )
    for M, ratios in sorted(by_M.items(), key=lambda item: float(item[0])):
        gap, kl, gain = np.array(ratios).T
        print(
            f"M = {M}: resampling against Gaussian, {len(ratios)} pairs: gap of the "
            f"bound to -log 10 times {gap.mean():.2f} (worst {gap.max():.2f}); "
            f"KL(encoder, posterior) times {kl.mean():.2f} (worst {kl.max():.2f}); "
            f"I higher by {gain.mean():.3f} (least {gain.min():.3f})"
        )


def main():
    """Run what is missing and print the table."""
    parts = ["ours", "rules", "networks", "ablation", "collapse", "gradients"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--toy", nargs="+", default=list(TARGETS))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = Results(RESULTS / "paper_toys.csv", FIELDS, complete=arguments.table)
    for part in [] if arguments.table else arguments.part:
        if part == "collapse":
            collapse(RESULTS / "paper_toys_collapse.csv", arguments.seeds)
        elif part == "gradients":
            gradients(RESULTS / "paper_toys_gradients.csv")
        for case in results.missing(cases_of(part, arguments.seeds)):
            if case["toy"] in arguments.toy:
                results.add(run(**case))
    table(results.rows)


if __name__ == "__main__":
    main()
