"""Movie reviews: information, likelihood and reconstruction over M (section 7.3).

    python benchmarks/bench_text.py PATH --size cpu [--only ROW ...] [--table]

PATH is a tab-separated file, gzipped or not, with a header and the columns ``label``
(of the review: 1 positive, 0 negative, -1 none), ``review_id``, ``sentence`` (tokens
separated by spaces) and ``split`` (train or validation). Sentences of at most 8 tokens
are used, punctuation counted. ``SIZES`` holds all settings.

Rows; those that the CSV has are not run again:

- ``lm``: the decoder alone as a language model, the code fixed at zero. H is its
  held-out NLL per sentence. ``lm2``: another seed; perplexities are under this one.
- ``vae``: M=None. ``mae_f``: M = f H. ``mae_1.2_narrow``: M = 1.2 H with as few
  components as most rows have.
- ``autoencoder``, ``autoencoder_wide``: the same network without noise and without KL,
  with as many components as most rows, or as the rows from ``mae_0.6`` on.
- ``vae_warmup`` (weight of the KL from 0 to 1 over the first quarter of the steps),
  ``vae_free_bits`` (no cost below 0.25 nats a component), ``vae_beta`` (weight 0.2).
- ``tfidf_svd``: TF-IDF and TruncatedSVD with as many components, for the sentiment.

Columns: the bracket ``low``, ``high`` of I(x, z), two standard errors included, the
narrower one of ``fit``'s (``fit_low``, ``fit_high``) and ``mutual_info``'s; rate, ELBO;
held-out log-likelihood by importance weighting, and its difference from the language
model's (``above_lm``); shares of exactly reconstructed sentences and of matching words,
position by position, from mean codes and from draws (unknown words count as wrong);
``code_kl``, the KL divergence from the prior of a normal distribution with the moments
of the codes drawn; perplexity of samples from the prior, per token, end mark included;
accuracy of a logistic regression that predicts a review's label from the code of one
held-out sentence.

``--cost`` compares times of training steps instead.
"""

import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rows import Results, append, messages, parser, timed_fit
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from text_models import (
    N_SAMPLED,
    SIZES,
    Corpus,
    Weighted,
    WithoutCode,
    WithoutNoise,
    accuracy,
    describe,
    ends,
    epochs,
    estimator,
    formatted,
    language_log_prob,
    load,
    perplexity,
    times,
    train,
    untrained,
)

from sklearn_mae.information import information_of_model
from sklearn_mae.model import draw
from sklearn_mae.training.landing import refine_posterior

# largest fraction of H for which mutual_info computes a narrower bracket
MAX_REFINED = 0.6
FRACTIONS = [0.1, 0.2, 0.4, 0.6, 0.8, 1.2]
ROWS = (
    ["lm", "lm2", "vae"]
    + [f"mae_{fraction}" for fraction in FRACTIONS]
    + ["mae_1.2_narrow"]
    + ["autoencoder", "autoencoder_wide"]
    + ["vae_warmup", "vae_free_bits", "vae_beta", "tfidf_svd"]
)
# rows whose code has more components: 10 learn 0.4 H fastest, and reach little more
WIDE = ["mae_0.6", "mae_0.8", "mae_1.2", "autoencoder_wide"]
BETA, FREE_NATS, WARMUP = 0.2, 0.25, 0.25
# steps that train the baselines' r_omega before their bracket
REFINING_STEPS = 500

SETTINGS = (
    "size row seed n_components hidden batch_size lr steps n_train n_words".split()
)
FIGURES = (
    "H M fraction low high fit_low fit_high rate_train rate_test rate_test_se "
    "elbo_train elbo_test log_likelihood above_lm exact_train_mean exact_train_draw "
    "exact_test_mean exact_test_draw words_train_mean words_train_draw "
    "words_test_mean words_test_draw code_kl perplexity sentiment_mean "
    "sentiment_draw multiplier_model multiplier_rate step_ms seconds warning"
).split()
COSTS = (
    "size setting encoder batch_size n_words vae_ms mae_ms calibration_ms ratio".split()
)


class Runner:
    """Runs rows; caches the language models.

    Parameters
    ----------
    corpus, size, seed
        Data, settings and seed.
    H : float
        The language model's held-out NLL; NaN before it is known.
    """

    def __init__(self, corpus: Corpus, size: dict, seed: int, H: float):
        self.corpus, self.size, self.seed, self.H = corpus, size, seed, H
        self.language_model = cache(self._language_model)

    def _language_model(self, seed: int):
        return train(self.corpus, self.size, seed, WithoutCode(), 1)

    def run(self, name: str) -> dict:
        """Return the figures of one row, and the settings that are its own."""
        separate = self.seed + 1_000
        if name not in ("lm", "lm2", "tfidf_svd", "autoencoder", "autoencoder_wide"):
            self.language_model(separate)  # outside the row's time
        start = time.perf_counter()
        n_components = self.size["wide" if name in WIDE else "n_components"]
        row = {"n_components": n_components, "H": self.H}
        if name in ("lm", "lm2"):
            net = self.language_model(self.seed if name == "lm" else separate)
            row.update(self._of_language_model(net, separate), n_components=0)
            row.update(times(net))
            if name == "lm":
                row["H"] = self.H = -row["log_likelihood"]
        elif name == "tfidf_svd":
            row["sentiment_mean"] = self._of_tfidf(n_components)
        elif name == "vae" or name.startswith("mae"):
            row.update(self._of_estimator(name, n_components))
        else:
            row.update(self._of_baseline(name, n_components))
        row["seconds"] = time.perf_counter() - start
        return row

    def _of_language_model(self, net, separate: int) -> dict:
        model, corpus = net.module_, self.corpus
        generator = torch.Generator(model.reference.device).manual_seed(self.seed)
        z = model.reference.new_zeros(N_SAMPLED, model.n_components)
        samples = draw(model.likelihood(z), (), generator)
        log_prob = [
            float(language_log_prob(model, x).mean())
            for x in (corpus.train[: len(corpus.test)], corpus.test)
        ]
        return {
            "elbo_train": log_prob[0],
            "elbo_test": log_prob[1],
            "log_likelihood": log_prob[1],
            "perplexity": perplexity(self.language_model(separate).module_, samples),
        }

    def _of_tfidf(self, n_components: int) -> float:
        corpus = self.corpus
        features = make_pipeline(
            TfidfVectorizer(token_pattern=None, tokenizer=str.split),
            TruncatedSVD(n_components, random_state=self.seed),
        ).fit(corpus.texts)
        return accuracy(
            corpus,
            features.transform(corpus.labelled_texts_train),
            features.transform(corpus.labelled_texts_test),
        )

    def _of_estimator(self, name: str, n_components: int) -> dict:
        X = self.corpus.train.cpu().numpy()
        M, row = None, {}
        if name != "vae":
            fraction = float(name.split("_")[1])
            M = round(fraction * self.H, 3)
            row = {"M": M, "fraction": fraction}
        mae = estimator(
            self.size,
            self.seed,
            M=M,
            n_components=n_components,
            max_epochs=epochs(self.size, len(X)),
        )
        _, caught = timed_fit(mae, X)
        brackets = [mae.mutual_info_interval_]
        if row.get("fraction", 0) <= MAX_REFINED:
            found = mae.mutual_info(1_000, max(0.1, 0.03 * (M or 0)))
            brackets.append(ends(found))
        row["fit_low"], row["fit_high"] = brackets[0]
        row["low"], row["high"] = min(brackets, key=lambda ends: ends[1] - ends[0])
        row.update(times(mae.net_))
        for part in ("model", "rate"):
            multiplier = mae.history_[f"multiplier_{part}"][-1]
            row[f"multiplier_{part}"] = "" if M is None else multiplier
        row["warning"] = messages(caught)
        row.update(self._describe(mae.net_.module_))
        return row

    def _of_baseline(self, name: str, n_components: int) -> dict:
        n_rows = len(self.corpus.train)
        n_batches = -(-n_rows // self.size["batch_size"])
        warm = WARMUP * n_batches * epochs(self.size, n_rows)
        rules = {
            "autoencoder": WithoutNoise(),
            "autoencoder_wide": WithoutNoise(),
            "vae_warmup": Weighted(lambda step: min(1.0, step / warm)),
            "vae_free_bits": Weighted(lambda step: 1.0, FREE_NATS),
            "vae_beta": Weighted(lambda step: BETA),
        }
        net = train(self.corpus, self.size, self.seed, rules[name], n_components)
        row = times(net)
        if name.startswith("autoencoder"):
            return {**row, **self._describe(net.module_, noisy=False)}
        refine_posterior(net, min(REFINING_STEPS, row["steps"]))
        row.update(self._describe(net.module_))
        generator = torch.Generator(self.size["device"]).manual_seed(self.seed)
        tol = max(0.1, 0.03 * row["rate_train"])
        model = net.module_.double()
        found = information_of_model(model, 2_000, tol, generator)
        row["low"], row["high"] = found.interval
        return row

    def _describe(self, model, noisy=True) -> dict:
        # without noise there are no samples whose perplexity could be computed
        separate = self.language_model(self.seed + 1_000).module_ if noisy else None
        return describe(model, self.corpus, separate, self.H, self.seed, noisy)


def costs(corpus: Corpus, name: str, n_rounds: int = 3, n_steps: int = 40):
    """Yield times of a training step with M=10 and with M=None, taken in turn.

    A short fit calibrates as often as a long one, so calibrations are timed separately
    and divided by the 4,000 steps of a default fit. The fits start untrained, when the
    model's own sentences are longest. The constraint only waits in three of its five
    terms here, as it does for 0.7 of a full fit.
    """
    size = SIZES[name]
    defaults = {**size, "hidden": (128, 128), "n_components": 8, "batch_size": 128}
    for setting, size_ in (("benchmark", size), ("defaults", defaults)):
        X = corpus.train[: size_["batch_size"] * n_steps].cpu().numpy()
        for encoder in ("gaussian", "resampling"):
            taken = {None: [], 10.0: []}
            calibrations = []
            for round_ in range(n_rounds):
                for M in taken:
                    step, calibration = _timed(X, size_, encoder, M, n_steps, round_)
                    taken[M].append(step)
                    calibrations.append(calibration)
            vae, mae = (1_000 * np.median(taken[M]) for M in taken)
            calibration = 1_000 * np.max(calibrations) / 4_000
            yield {
                "size": name,
                "setting": setting,
                "encoder": encoder,
                "batch_size": size_["batch_size"],
                "n_words": corpus.n_words,
                "vae_ms": vae,
                "mae_ms": mae,
                "calibration_ms": calibration,
                "ratio": (mae + calibration) / vae,
            }


def _timed(X, size: dict, encoder: str, M, n_steps: int, seed: int):
    """Seconds of a step, and of all calibrations of a fit."""
    batches = -(-len(X) // size["batch_size"])
    params = estimator(
        size, seed, M=M, encoder=encoder, max_epochs=-(-n_steps // batches)
    )
    net, rows = untrained(params, X)
    # on a shared machine the process's own time is what a step takes
    clock = time.process_time if params.device == "cpu" else time.perf_counter
    calibrating = 0.0
    if M is not None:
        information = next(c for c in net.constraints if c.name == "model")
        calibrate = information.calibrate

        def timed(*arguments):
            nonlocal calibrating
            start = clock()
            calibrate(*arguments)
            calibrating += clock() - start

        information.calibrate = timed
    start = clock()
    net.partial_fit(rows)
    return (clock() - start - calibrating) / net.step_, calibrating


def table(rows: list[dict]) -> None:
    """Print one line for each row."""

    def cell(row, *names, digits=2):
        values = [row[name] for name in names]
        if "" in values:
            return ""
        return " / ".join(f"{float(value):.{digits}f}" for value in values)

    print("| row | M | bracket | rate, train / held-out | ELBO, held-out |", end=" ")
    print("log p(x), above lm | perplexity | KL of codes | multipliers | ms | s |")
    print("|---" * 11 + "|")
    for row in rows:
        bracket = f"{cell(row, 'low')} .. {cell(row, 'high')}" if row["low"] else ""
        cells = [
            row["row"],
            cell(row, "M"),
            bracket,
            cell(row, "rate_train", "rate_test"),
            cell(row, "elbo_test"),
            cell(row, "log_likelihood", "above_lm") or cell(row, "log_likelihood"),
            cell(row, "perplexity", digits=1),
            cell(row, "code_kl"),
            cell(row, "multiplier_model", "multiplier_rate"),
            cell(row, "step_ms", digits=0),
            cell(row, "seconds", digits=0),
        ]
        print("| " + " | ".join(cells) + " |")
    print("\nmean codes / draws; exact sentences and matching words in per cent\n")
    print("| row | d | bracket | exact, train | exact, held-out |", end=" ")
    print("words, train | words, held-out | sentiment |")
    print("|---" * 8 + "|")
    for row in rows:
        if not row["sentiment_mean"]:
            continue
        bracket = f"{cell(row, 'low')} .. {cell(row, 'high')}" if row["low"] else ""
        cells = [row["row"], row["n_components"], bracket]
        for name in (
            "exact_train",
            "exact_test",
            "words_train",
            "words_test",
            "sentiment",
        ):
            shares = [row[f"{name}_{codes}"] for codes in ("mean", "draw")]
            cells.append(" / ".join(f"{float(s):.1%}" for s in shares if s != ""))
        print("| " + " | ".join(cells) + " |")


def main():
    """Run what is missing and print the table."""
    options = parser(__doc__, "text.csv")
    options.add_argument("path")
    options.add_argument("--size", choices=SIZES, default="cpu")
    options.add_argument("--only", nargs="+", choices=ROWS, default=ROWS, metavar="ROW")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--cost", action="store_true")
    arguments = options.parse_args()
    size = SIZES[arguments.size]
    if size["device"] == "cpu":
        torch.set_num_threads(1)
    path = Path(arguments.out)
    if arguments.cost:
        path = path.with_name(path.stem + "_cost.csv")
        for row in costs(load(arguments.path, size), arguments.size):
            append(path, COSTS, formatted(row))
            print(formatted(row), flush=True)
        return
    settings = {name: size[name] for name in ("batch_size", "lr", "steps")}
    settings.update(size=arguments.size, seed=arguments.seed)
    settings["hidden"] = "-".join(map(str, size["hidden"]))
    results = Results(path, SETTINGS + FIGURES, complete=arguments.table)
    cases = ({**settings, "row": name} for name in arguments.only)
    missing = [case["row"] for case in results.missing(cases)]
    if missing:
        done = {row["row"]: row for row in results.of(settings)}
        if "lm" not in done and "lm" not in missing:
            missing.insert(0, "lm")
        corpus = load(arguments.path, size)
        H = float(done["lm"]["H"]) if "lm" in done else math.nan
        runner = Runner(corpus, size, arguments.seed, H)
        counts = {"n_train": len(corpus.train), "n_words": corpus.n_words}
        for name in missing:
            row = {"row": name, **runner.run(name), **settings, **counts}
            results.add(formatted(row))
    table(sorted(results.of(settings), key=lambda row: ROWS.index(row["row"])))


if __name__ == "__main__":
    main()
