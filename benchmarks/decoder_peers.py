"""Densities of tables by other packages, for ``bench_decoders.py``.

Both know densities alone, so that they are fitted to and judged on rows that are spread
evenly over the cells of their grids. ``spline`` is zuko's neural spline flow (MIT),
trained by Adam for the steps that our decoder has; of three sizes that one is taken
which is best on a tenth of the rows to fit on, held out from it.
"""

import copy
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.mixture import GaussianMixture

from sklearn_mae.families.autoregressive import AutoregressiveTable
from sklearn_mae.families.joined import Joined

# transforms, and units of the two layers of each
SPLINES = (3, 64), (3, 128), (5, 128)
STEPS, BATCH, LR, LOOKS = 3_000, 256, 2e-3, 30


class Peer(NamedTuple):
    """Log p of held-out rows, samples, and the CPU seconds of the fits."""

    log_p: np.ndarray
    samples: pd.DataFrame
    seconds: float


class Spread:
    """Rows spread over the cells of their grids, standardised, and back."""

    def __init__(self, train: pd.DataFrame, seed: int):
        self.columns = train.columns
        kinds = Joined(["gaussian"] * train.shape[1])
        self.grids = AutoregressiveTable(kinds).fit(train.to_numpy(float)).grids_
        self.rng = np.random.default_rng(seed)
        X = self._spread(train)
        self.mean, self.scale = X.mean(0), X.std(0)
        self.train = (X - self.mean) / self.scale

    def _spread(self, table: pd.DataFrame) -> np.ndarray:
        X = table.to_numpy(float)
        return X + self.grids.step_ * (self.rng.random(X.shape) - 0.5)

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        """Spread and standardise."""
        return (self._spread(table) - self.mean) / self.scale

    def peer(self, log_p, samples, seconds: float) -> Peer:
        """Return to the units and the grids of the table."""
        samples = self.rng.permutation(samples) * self.scale + self.mean
        return Peer(
            log_p - np.log(self.scale).sum(),
            pd.DataFrame(self.grids.rounded(samples), columns=self.columns),
            seconds,
        )


def gaussians(name, train, test, n_samples: int, seed: int) -> Peer:
    """Fit a mixture of as many Gaussians as the name says."""
    spread = Spread(train, seed)
    n = int(name.removeprefix("gaussians"))
    start = time.process_time()
    model = GaussianMixture(n, random_state=seed).fit(spread.train)
    seconds = time.process_time() - start
    samples, _ = model.sample(n_samples)
    return spread.peer(model.score_samples(spread(test)), samples, seconds)


def spline(name, train, test, n_samples: int, seed: int) -> Peer:
    """Fit neural spline flows of three sizes, and take the one of best validation."""
    spread = Spread(train, seed)
    x = torch.tensor(spread.train, dtype=torch.float32)
    n = len(x) // 10
    start = time.process_time()
    found = [_trained(x[n:], x[:n], *size, seed) for size in SPLINES]
    seconds = time.process_time() - start
    _, flow, size = max(found, key=lambda each: each[0])
    print(f"{name}: transforms and units {size}")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        held_out = torch.tensor(spread(test), dtype=torch.float32)
        log_p = flow().log_prob(held_out).double().numpy()
        samples = flow().sample((n_samples,)).double().numpy()
    return spread.peer(log_p, samples, seconds)


def _trained(x, validation, transforms: int, units: int, seed: int):
    """Return the best mean log p of validation rows, that flow, and its size."""
    import zuko

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = zuko.flows.NSF(
            x.shape[1], transforms=transforms, hidden_features=(units, units)
        )
    optimizer = torch.optim.Adam(flow.parameters(), lr=LR)
    generator = torch.Generator().manual_seed(seed)
    best = -np.inf, flow
    for step in range(1, STEPS + 1):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, 2 * (1 - step / (STEPS + 1)))
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        optimizer.zero_grad()
        (-flow().log_prob(x[rows]).mean()).backward()
        optimizer.step()
        if step % (STEPS // LOOKS) == 0:
            with torch.no_grad():
                log_p = float(flow().log_prob(validation).mean())
            if log_p > best[0]:
                best = log_p, copy.deepcopy(flow)
    return *best, (transforms, units)
