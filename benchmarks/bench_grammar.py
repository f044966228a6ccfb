"""Sentences of a grammar, whose entropy is known: what control and credit achieve.

    python benchmarks/bench_grammar.py [--part control credit] [--seeds 1] [--table]

``control``: M at fractions of the entropy of ``make_sentences()``; 8,000 sentences to
train on, 2,000 new ones. The bracket ``low``, ``high`` of I(x, z), two standard errors
included; the rate; exactly reconstructed sentences and matching words of new sentences
from mean codes; ``kl``, the mean of log q(x) - log p(x) over new sentences, q the
grammar, p the model by importance weighting.

``credit``: the gradient of I(x, z) in the decoder's parameters at a trained model, by
per-token credit, by REINFORCE with the leave-one-out mean as its baseline and by plain
REINFORCE: the sum of its variances over the parameters, divided by the squared norm of
its mean; milliseconds for a gradient. One gradient is that of a training step upwards.

One torch thread. A row is written as soon as it is there, and not run again;
``--table`` only summarises.
"""

import argparse
import time
import warnings
from functools import cache
from pathlib import Path

import torch
from rows import append, read
from text_models import ends, formatted, matches, times

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import make_sentences
from sklearn_mae.families.sequences import Sequences
from sklearn_mae.gradients import PerToken, Reinforce
from sklearn_mae.training import Information
from sklearn_mae.training.constraints import Step
from sklearn_mae.training.penalty import DualAscent

RESULTS = Path("benchmarks/results")
N_TRAIN, N_TEST, BATCH_SIZE = 8_000, 2_000, 64
FRACTIONS = {
    "control": [0.25, 0.5, 0.75, 0.9, 1.0],
    "credit": [0.25, 0.5, 0.9],
}
STRATEGIES = {
    "per token": lambda model: PerToken(model.posterior, model.prior),
    "leave-one-out": lambda model: Reinforce(),
    "plain": lambda model: Reinforce(leave_one_out=False),
}
SETTINGS = "n_words n_components hidden batch_size lr steps fraction M seed".split()
FIELDS = {
    "control": SETTINGS
    + (
        "entropy low high rate_train rate_test rate_test_se exact words "
        "log_likelihood kl kl_se multiplier_model multiplier_rate step_ms seconds "
        "warning"
    ).split(),
    "credit": SETTINGS
    + (
        "information strategy n_gradients variance squared_norm ratio gradient_ms"
    ).split(),
}
FILES = {"control": "text_grammar.csv", "credit": "text_gradients.csv"}


@cache
def data(n_words: int):
    """Grammar, vectorizer, and rows to train on."""
    grammar = make_sentences(N_TRAIN, n_words=n_words, random_state=0)
    vectorizer = SequenceVectorizer()
    return grammar, vectorizer, vectorizer.fit_transform(grammar.data)


@cache
def fitted(settings: tuple):
    """Estimator fitted with these settings; what it warned of."""
    of = dict(settings)
    _, _, X = data(of["n_words"])
    steps_each = -(-len(X) // of["batch_size"])
    mae = MutualAutoencoder(
        M=of["M"],
        n_components=of["n_components"],
        likelihood="sequence",
        encoder="resampling",
        hidden_layer_sizes=tuple(map(int, of["hidden"].split("-"))),
        batch_size=of["batch_size"],
        lr=of["lr"],
        max_epochs=max(1, round(of["steps"] / steps_each)),
        random_state=of["seed"],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mae.fit(X)
    return mae, " ".join(str(warning.message) for warning in caught)


def control(settings: dict):
    """Yield what one fit reached."""
    start = time.perf_counter()
    grammar, vectorizer, X = data(settings["n_words"])
    mae, warning = fitted(tuple(settings.items()))
    found = mae.mutual_info(2_000, max(0.06, 0.02 * mae.M))
    brackets = [mae.mutual_info_interval_, ends(found)]
    low, high = min(brackets, key=lambda bracket: bracket[1] - bracket[0])
    new = make_sentences(N_TEST, n_words=settings["n_words"], random_state=1)
    X_new = vectorizer.transform(new.data)
    exact, words = matches(torch.tensor(X_new), torch.tensor(mae.reconstruct(X_new)))
    log_p = mae.log_likelihood(X_new, 200)
    divergence = new.log_likelihood(new.data) - log_p
    rates = mae.rate(X_new)
    yield {
        "entropy": grammar.entropy,
        "low": low,
        "high": high,
        "rate_train": mae.rate(X[:N_TEST]).mean(),
        "rate_test": rates.mean(),
        "rate_test_se": rates.std(ddof=1) / len(rates) ** 0.5,
        "exact": exact,
        "words": words,
        "log_likelihood": log_p.mean(),
        "kl": divergence.mean(),
        "kl_se": divergence.std(ddof=1) / len(divergence) ** 0.5,
        "multiplier_model": mae.history_["multiplier_model"][-1],
        "multiplier_rate": mae.history_["multiplier_rate"][-1],
        **times(mae.net_),
        "seconds": time.perf_counter() - start,
        "warning": warning,
    }


def credit(settings: dict, n_gradients: int = 200):
    """Yield the noise of each strategy's gradient at one trained model."""
    mae, _ = fitted(tuple(settings.items()))
    model = mae.net_.module_
    parameters = list(model.likelihood.parameters())
    for name, strategy in STRATEGIES.items():
        rising = DualAscent(10.0, settings["M"], growth=0.0)
        rising.start_from(-1.0)
        constraint = Information(rising, strategy(model), Sequences.schedule)
        generator = torch.Generator().manual_seed(settings["seed"])
        # of two halves, whose product is unbiased for the squared norm of the mean
        n = n_gradients // 2
        sums, squares = [], 0.0
        start = time.perf_counter()
        for _ in range(2):
            total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
            for _ in range(n):
                nothing = torch.zeros(())
                term = constraint.term(
                    Step(model, 0, BATCH_SIZE, nothing, nothing, generator)
                )
                gradient = torch.autograd.grad(term.penalty, parameters)
                torch._foreach_add_(total, [part.double() for part in gradient])
                squares += sum(float(part.double().square().sum()) for part in gradient)
            sums.append(total)
        seconds = time.perf_counter() - start
        pooled = sum(
            float((a + b).square().sum()) for a, b in zip(*sums, strict=True)
        ) / (2 * n)
        variance = (squares - pooled) / (2 * n - 1)
        product = sum(float((a * b).sum()) for a, b in zip(*sums, strict=True)) / n**2
        yield {
            "information": mae.mutual_info_,
            "strategy": name,
            "n_gradients": 2 * n,
            "variance": variance,
            "squared_norm": product,
            "ratio": variance / product,
            "gradient_ms": 1_000 * seconds / (2 * n),
        }


def table(part: str, rows: list[dict]) -> None:
    """Print one line for each row."""
    if part == "control":
        print("| M / H | M | bracket | held-out rate | exact | words | KL | s |")
        print("|---" * 8 + "|")
        for row in rows:
            f = {
                k: float(row[k]) for k in FIELDS[part] if k not in ("warning", "hidden")
            }
            print(
                f"| {f['fraction']:g} | {f['M']:.2f} | {f['low']:.3f} .. "
                f"{f['high']:.3f} | {f['rate_test']:.2f} | {f['exact']:.1%} | "
                f"{f['words']:.1%} | {f['kl']:.3f} | {f['seconds']:.0f} |"
            )
    else:
        print("| M / H | strategy | variance | squared norm | ratio | ms |")
        print("|---" * 6 + "|")
        for row in rows:
            print(
                f"| {row['fraction']} | {row['strategy']} | "
                f"{float(row['variance']):.3g} | {float(row['squared_norm']):.3g} | "
                f"{float(row['ratio']):.3g} | {float(row['gradient_ms']):.0f} |"
            )


def main():
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--fractions", nargs="+", type=float)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--n-words", type=int, default=4)
    parser.add_argument("--out", default=str(RESULTS), help="folder of the CSVs")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    entropy = make_sentences(1, n_words=arguments.n_words).entropy
    for part in arguments.part:
        path = folder / FILES[part]
        rows = read(path)
        done = {tuple(row[name] for name in SETTINGS) for row in rows}
        jobs = [
            {
                "n_words": arguments.n_words,
                "n_components": 8,
                "hidden": "64-128",
                "batch_size": BATCH_SIZE,
                "lr": 4e-3,
                "steps": arguments.steps,
                "fraction": fraction,
                "M": round(fraction * entropy, 3),
                "seed": seed,
            }
            for seed in range(arguments.seeds)
            for fraction in arguments.fractions or FRACTIONS[part]
        ]
        for settings in [] if arguments.table else jobs:
            if tuple(str(value) for value in settings.values()) in done:
                continue
            run = {"control": control, "credit": credit}[part]
            for found in run(settings):
                row = {**formatted(found), **settings}
                append(path, FIELDS[part], row)
                rows.append({name: str(value) for name, value in row.items()})
                print(row, flush=True)
        table(part, rows)


if __name__ == "__main__":
    main()
