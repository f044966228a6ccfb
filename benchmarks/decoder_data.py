"""Tables for ``bench_decoders.py``: made ones, digits, those of ``table_data.py``."""

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, make_moons
from sklearn.model_selection import train_test_split
from table_data import FRAMES

STAY = 0.8  # a binary column of the chain is as the one before it, in its rows
N_PLANE = 6_000  # rows of the tables of two columns


def chain(n=150_000, length=64, seed=0) -> pd.DataFrame:
    """Make rows of a Markov chain of binary columns."""
    rng = np.random.default_rng(seed)
    changes = rng.random((n, length)) > STAY
    changes[:, 0] = rng.random(n) > 0.5
    columns = (np.cumsum(changes, axis=1) % 2).astype(bool)
    return pd.DataFrame(columns, columns=[f"bit{j}" for j in range(length)])


def log_p_of_chain(table: pd.DataFrame) -> np.ndarray:
    """Return the log-probabilities of rows under the truth."""
    changes = np.diff(table.to_numpy().astype(int), axis=1) != 0
    return np.log(0.5) + np.where(changes, np.log(1 - STAY), np.log(STAY)).sum(1)


def moons(seed=0) -> pd.DataFrame:
    """Make rows near two half circles."""
    X, _ = make_moons(N_PLANE, noise=0.1, random_state=seed)
    return pd.DataFrame(X, columns=["a", "b"])


def ring(seed=0) -> pd.DataFrame:
    """Make rows of eight Gaussians on a circle."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.integers(8, size=N_PLANE) / 8
    X = np.column_stack([np.cos(angle), np.sin(angle)])
    return pd.DataFrame(X + 0.1 * rng.normal(size=X.shape), columns=["a", "b"])


def normal(n: int, seed=0) -> pd.DataFrame:
    """Make rows of three normal columns, the third about the first."""
    X = np.random.default_rng(seed).normal(size=(n, 3))
    X[:, 2] += X[:, 0]
    return pd.DataFrame(X, columns=["a", "b", "c"])


# rows to fit on, few of them; 2,000 more are held out
FEW = {"normal-25": 25, "normal-100": 100, "normal-500": 500}
MADE = {
    "chain": chain,
    "digits": lambda: load_digits(as_frame=True).data,
    "moons": moons,
    "ring": ring,
}


def read(data: str) -> pd.DataFrame:
    """Read a table; ``-numeric`` at its name's end leaves its numbers alone."""
    if data in MADE:
        return MADE[data]()
    table = FRAMES[data.partition("-")[0]]()
    return table.select_dtypes("number") if data.endswith("numeric") else table


def halves(data: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows to fit on and rows held out, a third of all but of few."""
    if data in FEW:
        table = normal(FEW[data] + 2_000)
        return table[: FEW[data]], table[FEW[data] :]
    train, test = divided(read(data))
    return train.reset_index(drop=True), test.reset_index(drop=True)


def classes_of_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of both."""
    return divided(load_digits().target)


def divided(rows):
    """Divide rows in two, always alike."""
    return train_test_split(rows, test_size=1 / 3, random_state=0)
