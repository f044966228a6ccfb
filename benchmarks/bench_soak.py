"""Hundreds of fits in one process: does memory stay constant?

    python benchmarks/bench_soak.py [--fits 500]

Small fits of every kind of likelihood and encoder in turn. Each is pickled, loaded and
used. The resident memory after the last fit is compared with that after the 50th. One
torch thread.
"""

import ctypes
import gc
import itertools
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import torch
from rows import append, parser

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import make_sentences

FIELDS = ("fits", "megabytes")
EVERY = 50  # fits


def resident() -> float:
    """Return the resident memory in megabytes, after free memory is released."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def kinds():
    """Yield rows and parameters of every kind, without end."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(100, 4))
    bits = (rng.random((100, 12)) < 0.5).astype(float)
    words = SequenceVectorizer().fit_transform(make_sentences(100, random_state=0).data)
    tables = [
        ("gaussian", numbers),
        ("heteroscedastic", numbers),
        ("bernoulli", bits),
        ("categorical", bits),
        ("sequence", words),
    ]
    encoders = itertools.cycle(["gaussian", "resampling"])
    for likelihood, X in itertools.cycle(tables):
        yield X, {"likelihood": likelihood, "encoder": next(encoders)}


def main():
    """Fit, note the memory every 50 fits, and compare."""
    options = parser(__doc__, "soak.csv", table=False)
    options.add_argument("--fits", type=int, default=500)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    path = Path(arguments.out)
    path.unlink(missing_ok=True)
    megabytes = {}
    for i, (X, params) in enumerate(itertools.islice(kinds(), arguments.fits), 1):
        mae = MutualAutoencoder(
            M=1, hidden_layer_sizes=(16, 16), max_epochs=3, random_state=i, **params
        ).fit(X)
        pickle.loads(pickle.dumps(mae)).transform(X)
        if i % EVERY == 0:
            megabytes[i] = resident()
            append(path, FIELDS, {"fits": i, "megabytes": f"{megabytes[i]:.1f}"})
            print(f"{i} fits: {megabytes[i]:.1f} MB", flush=True)
    last = megabytes[max(megabytes)]
    print(f"after the last / after fit {EVERY}: {last / megabytes[EVERY]:.4f}")


if __name__ == "__main__":
    main()
