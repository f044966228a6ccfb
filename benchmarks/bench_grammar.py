"""Sentences of a grammar, whose entropy is known: control, and noise of gradients.

    python benchmarks/bench_grammar.py [--part control credit] [--seeds 1] [--table]

``control``: M at fractions of the entropy of ``make_sentences()``; 8,000 sentences to
train on, 2,000 new ones. The bracket ``low``, ``high`` of I(x, z), two standard errors
included; the rate; shares of exactly reconstructed sentences and of matching words of
new sentences from mean codes; ``kl``, the mean of log q(x) - log p(x) over new
sentences, q the grammar, p the model by importance weighting.

``credit``: the gradient of I(x, z) in the decoder's parameters at a trained model, as
in a training step that raises I, by per-token credit, by REINFORCE with the
leave-one-out mean as baseline and by plain REINFORCE: the sum of its variances over the
parameters, divided by the squared norm of its mean; milliseconds of one gradient.

One torch thread. Rows that the CSVs have are not run again; ``--table`` only summarises
them. ``--out`` is the folder of both CSVs.
"""

import time
from functools import cache
from pathlib import Path

import torch
from rows import Results, messages, parser, timed_fit
from text_models import ends, formatted, matches, times

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import make_sentences
from sklearn_mae.families.sequences import Sequences
from sklearn_mae.gradients import PerEntry, Reinforce
from sklearn_mae.training import Information
from sklearn_mae.training.constraints import Step
from sklearn_mae.training.penalty import DualAscent

N_TRAIN, N_TEST, BATCH_SIZE = 8_000, 2_000, 64
FRACTIONS = {
    "control": [0.25, 0.5, 0.75, 0.9, 1.0],
    "credit": [0.25, 0.5, 0.9],
}
STRATEGIES = {
    "per token": lambda model: PerEntry(model.posterior, model.prior),
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
    """Return grammar, vectorizer, and rows to train on."""
    grammar = make_sentences(N_TRAIN, n_words=n_words, random_state=0)
    vectorizer = SequenceVectorizer()
    return grammar, vectorizer, vectorizer.fit_transform(grammar.data)


@cache
def fitted(settings: tuple):
    """Return the estimator fitted with these settings, and its warnings."""
    values = dict(settings)
    _, _, X = data(values["n_words"])
    steps_per_epoch = -(-len(X) // values["batch_size"])
    mae = MutualAutoencoder(
        M=values["M"],
        n_components=values["n_components"],
        likelihood="sequence",
        encoder="resampling",
        hidden_layer_sizes=tuple(map(int, values["hidden"].split("-"))),
        batch_size=values["batch_size"],
        lr=values["lr"],
        max_epochs=max(1, round(values["steps"] / steps_per_epoch)),
        random_state=values["seed"],
    )
    _, caught = timed_fit(mae, X)
    return mae, messages(caught)


def control(settings: dict):
    """Yield the figures of one fit."""
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
    """Yield the variance of each strategy's gradient at one trained model."""
    mae, _ = fitted(tuple(settings.items()))
    model = mae.net_.module_
    parameters = list(model.likelihood.parameters())
    for name, strategy in STRATEGIES.items():
        rising = DualAscent(10.0, settings["M"], growth=0.0)
        rising.start_from(-1.0)
        constraint = Information(rising, strategy(model), Sequences.schedule)
        generator = torch.Generator().manual_seed(settings["seed"])
        # two halves: their product is unbiased for the squared norm of the mean
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
    options = parser(__doc__, "", seeds=1)
    options.add_argument("--part", nargs="+", choices=FILES, default=list(FILES))
    options.add_argument("--fractions", nargs="+", type=float)
    options.add_argument("--steps", type=int, default=3_000)
    options.add_argument("--n-words", type=int, default=4)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    entropy = make_sentences(1, n_words=arguments.n_words).entropy
    for part in arguments.part:
        path = Path(arguments.out) / FILES[part]
        results = Results(path, FIELDS[part], complete=arguments.table)
        cases = (
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
        )
        run = {"control": control, "credit": credit}[part]
        for settings in results.missing(cases):
            for figures in run(settings):
                results.add({**formatted(figures), **settings})
        table(part, results.rows)


if __name__ == "__main__":
    main()
