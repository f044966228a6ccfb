"""Speed of training against a hand-written loop.

    python benchmarks/bench_speed.py [--rounds 3] [--out benchmarks/results/speed.csv]

A 64-128-128 network, d = 8, batches of 128, one torch thread. Each round times all
variants in turn on the same machine. Only ratios are reported: the median over rounds
of the ratio within a round.

1. M=None with the Gaussian encoder against a hand-written PyTorch loop of the same
   variational autoencoder, with torch's default Adam and with its fused one.
2. The default constraint against M=None with the same encoder, with calibration and
   without the certificate after training. The number of calibrations per fit is fixed,
   so these fits have the default number of steps.
"""

import csv
import math
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from rows import parser
from torch import nn

from sklearn_mae import MutualAutoencoder

N_ROWS, N_FEATURES, N_COMPONENTS, BATCH = 3_840, 64, 8, 128
EPOCHS = 20


def hand_written_loop(X: np.ndarray, fused: bool) -> float:
    """Return the seconds of an epoch of a VAE in a plain PyTorch loop."""

    def network(n_inputs, n_outputs):
        return nn.Sequential(
            nn.Linear(n_inputs, 128),
            nn.SiLU(),
            nn.Linear(128, 128),
            nn.SiLU(),
            nn.Linear(128, n_outputs),
        )

    x = torch.tensor(X, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    encoder = network(N_FEATURES, 2 * N_COMPONENTS)
    decoder = network(N_COMPONENTS, N_FEATURES)
    log_scale = nn.Parameter(torch.zeros(N_FEATURES))
    parameters = [*encoder.parameters(), *decoder.parameters(), log_scale]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=fused)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(BATCH):
            batch = x[rows]
            mean, log_variance = encoder(batch).chunk(2, -1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            e = (batch - decoder(z)) * (-log_scale).exp()
            log_likelihood = -(0.5 * e.square() + log_scale).sum(-1)
            log_likelihood = log_likelihood - 0.5 * N_FEATURES * math.log(2 * math.pi)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
            loss = (kl - log_likelihood).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # as a loop that reports its loss
    return (time.perf_counter() - start) / EPOCHS


def estimator(X: np.ndarray, **parameters) -> float:
    """Return the seconds of an epoch of training, as the net times it."""
    mae = MutualAutoencoder(random_state=0, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mae.fit(X)
    return float(np.mean([epoch["dur"] for epoch in mae.net_.history]))


def main():
    """Run all rounds, write the CSV and print the table."""
    options = parser(__doc__, "speed.csv", table=False)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    torch.set_num_threads(1)

    rng = np.random.default_rng(0)
    codes = rng.normal(size=(N_ROWS, N_COMPONENTS))
    X = np.tanh(codes @ rng.normal(size=(N_COMPONENTS, N_FEATURES)))
    X = X + 0.3 * rng.normal(size=X.shape)

    variants = {
        "loop, Adam": lambda: hand_written_loop(X, fused=False),
        "loop, fused Adam": lambda: hand_written_loop(X, fused=True),
        "gaussian, M=None": lambda: estimator(
            X, M=None, encoder="gaussian", max_epochs=EPOCHS
        ),
        "gaussian, M=3": lambda: estimator(X, M=3, encoder="gaussian"),
        "resampling, M=None": lambda: estimator(X, M=None),
        "resampling, M=3": lambda: estimator(X, M=3),
    }
    for name in ("loop, Adam", "loop, fused Adam", "gaussian, M=None"):
        variants[name]()  # first calls load and compile
    rounds = [
        {name: variant() for name, variant in variants.items()}
        for _ in range(arguments.rounds)
    ]

    comparisons = [
        ("samples/s, M=None gaussian / loop", "loop, Adam", "gaussian, M=None"),
        (
            "samples/s, M=None gaussian / loop with fused Adam",
            "loop, fused Adam",
            "gaussian, M=None",
        ),
        ("time, default / M=None, resampling", "resampling, M=3", "resampling, M=None"),
        ("time, M=3 / M=None, gaussian", "gaussian, M=3", "gaussian, M=None"),
    ]
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["comparison", "median", "lowest", "highest", "rounds"])
        print("| comparison | median ratio | range |\n|---|---|---|")
        for title, above, below in comparisons:
            ratios = [seconds[above] / seconds[below] for seconds in rounds]
            median = statistics.median(ratios)
            row = [f"{v:.2f}" for v in (median, min(ratios), max(ratios))]
            writer.writerow([title, *row, len(rounds)])
            print(f"| {title} | {row[0]} | {row[1]} to {row[2]} |")


if __name__ == "__main__":
    main()
