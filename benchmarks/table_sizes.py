"""Memory and time of one epoch on a large table: ``table_sizes.py TABLE``.

``bench_tables.py`` runs it in a process of its own, whose peak of memory is this fit's.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rows import said, timed_fit
from scipy import sparse
from skorch.callbacks import Callback

from sklearn_mae import MutualAutoencoder

SPARSE = "sparse counts"


def large_table(table: str) -> pd.DataFrame | sparse.csr_array:
    """Make one of the tables whose decoders have about 5,000 outputs, or 20,000."""
    rng = np.random.default_rng(0)
    if table == SPARSE:  # words of 50,000 posts, 80 each, as frequent as Zipf has it
        n, n_words, length = 50_000, 20_000, 80
        frequencies = 1 / np.arange(1, n_words + 1)
        words = rng.choice(n_words, n * length, p=frequencies / frequencies.sum())
        starts = np.arange(0, n * length + 1, length)
        counts = sparse.csr_array((np.ones(n * length), words, starts), (n, n_words))
        counts.sum_duplicates()
        return counts
    if table == "numbers":  # fewer rows: these are 8 bytes an entry
        z, W = rng.normal(size=(2_000, 4)), rng.normal(size=(4, 5_000))
        values = z @ W + rng.normal(size=(2_000, 5_000))
        return pd.DataFrame(values, columns=[f"x{j}" for j in range(5_000)])
    n = 10_000
    z = rng.normal(size=(n, 4))
    numbers = pd.DataFrame(z + rng.normal(size=(n, 4)), columns=list("abcd"))
    if table == "one of 5,000":
        # neighbours in z have neighbouring categories, about two rows each
        order = (z[:, 0] + 0.3 * rng.normal(size=n)).argsort().argsort()
        return numbers.assign(town=[f"town {i // 2}" for i in order])
    columns = {}
    for j in range(1_250):  # "1,250 of 4"
        logits = z @ rng.normal(size=(4, 4)) + rng.gumbel(size=(n, 4))
        columns[f"c{j}"] = pd.Categorical.from_codes(logits.argmax(1), list("stuv"))
    return pd.concat([numbers, pd.DataFrame(columns)], axis=1)


def memory(what: str) -> float:
    """Return VmRSS, the resident memory, or VmHWM, its peak, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024 / 1e6


class Clock(Callback):
    """CPU seconds of the training and its peak of memory."""

    def on_train_begin(self, net, **kwargs):
        self.start = time.process_time()

    def on_train_end(self, net, **kwargs):
        net.history.record("cpu_seconds", time.process_time() - self.start)
        net.history.record("peak", memory("VmHWM"))


def main(table: str) -> None:
    """Fit one epoch to a table and print what it took."""
    data = large_table(table)
    kind = {"likelihood": "poisson", "hidden_layer_sizes": (64,)}
    kind = kind if table == SPARSE else {}
    few = data[:200, :2] if table == SPARSE else data.iloc[:200, :2]
    small = {**kind, "hidden_layer_sizes": (8,)}
    # what torch takes for itself
    timed_fit(MutualAutoencoder(max_epochs=1, random_state=0, **small), few)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = memory("VmRSS")
    mae = MutualAutoencoder(max_epochs=1, callbacks=[Clock()], random_state=0, **kind)
    seconds, caught = timed_fit(mae, data)
    epoch = mae.net_.history[-1]
    row = {
        "rows": data.shape[0],
        "columns": data.shape[1],
        "outputs": mae._fitted.family.family.n_outputs,
        "memory_mb": f"{memory('VmHWM') - before:.0f}",
        "training_mb": f"{epoch['peak'] - before:.0f}",
        "step_seconds": f"{epoch['cpu_seconds'] / epoch['train_batch_count']:.4f}",
        **said(mae, seconds, caught),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
