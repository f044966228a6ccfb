"""What y is with a target: labels, their classes, and the methods that ask for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import ndtri
from sklearn.utils import Bunch

from sklearn_mae.columns import is_missing, row_blocks
from sklearn_mae.model import (
    BlockPrior,
    ClassNormals,
    Pool,
    Prior,
    StandardNormal,
    class_means,
)
from sklearn_mae.noise import row_noise, with_occurrence
from sklearn_mae.parameters import plain_number
from sklearn_mae.records import array, entries, need, outcomes

__all__ = [
    "FEWEST_ROWS",
    "MOST_COMPARED",
    "TARGETS",
    "Labelled",
    "Labels",
    "Target",
    "all_labels",
    "labels_of_fit",
    "of_blocks",
    "resolve_target",
    "some_labels",
    "target_nats",
]

TARGETS = ("condition", "code")
# of labels: each class has centres of its own to be compared with
MOST_CLASSES = 500
# the label of unlabelled rows, with target="code"
UNLABELLED = -1
# part of H(y) that M_target="max" asks for
MAX_SHARE = 0.95
# What is held out from training for the certificate: this part of the rows, where each
# class has at least so many; and rows of it that are compared, at most
HELD_OUT, FEWEST_ROWS, MOST_COMPARED = 0.2, 50, 20_000


@dataclass(frozen=True, eq=False)
class Target:
    """What ``fit`` learned of y.

    Parameters
    ----------
    kind : str
        The parameter `target`.
    classes_ : ndarray of shape (k,)
        Labels, sorted.
    labels, counts : ndarray of shape (P,), int64
        The classes found with each pattern of observed entries, and in how many rows.
    observed : ndarray of shape (P, D), bool, or None
        These patterns. None: nothing was missing.
    means : ndarray of shape (k, n_target_components) or None
        Where the first block of the code has its classes, with ``target="code"``.
    """

    kind: str
    classes_: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    observed: np.ndarray | None = None
    means: np.ndarray | None = None

    @property
    def told(self) -> bool:
        """Whether the decoder sees y."""
        return self.kind == "condition"

    @property
    def n_classes(self) -> int:
        """Number k of classes."""
        return len(self.classes_)

    @property
    def shares(self) -> np.ndarray:
        """Frequencies of the classes, shape (k,)."""
        counts = np.bincount(self.labels, self.counts, self.n_classes)
        return counts / counts.sum()

    @property
    def entropy(self) -> float:
        """H(y), in nats."""
        shares = self.shares[self.shares > 0]
        return float(-(shares * np.log(shares)).sum())

    def index(self, y: ArrayLike, n: int) -> np.ndarray:
        """Return the classes' positions of labels of n rows, int64 of shape (n,).

        Raises
        ------
        ValueError
            If a label is none that fit has seen.
        """
        return _positions(all_labels(y, n), self.classes_)

    def given(self, y: ArrayLike, n: int) -> np.ndarray:
        """Return what the decoder is given for labels of n rows, shape (n, k)."""
        return np.eye(self.n_classes)[self.index(y, n)]

    @property
    def usual(self) -> np.ndarray:
        """What stands for a label where none is given: the most frequent class."""
        return np.eye(self.n_classes)[self.shares.argmax()]

    def pool(self) -> Pool:
        """Return the contexts of the rows of fit: patterns, and what is given."""
        observed = None if self.observed is None else torch.as_tensor(self.observed)
        given = torch.as_tensor(np.eye(self.n_classes)[self.labels])
        return Pool(observed, given, torch.as_tensor(self.counts))

    def placed(self, n_components: int, nats: float) -> Target:
        """Return the same with means of the classes in a block of the code, if any.

        So far apart that the block has so many nats about them.
        """
        if n_components == 0:
            return self
        return replace(self, means=class_means(self.shares, n_components, nats))

    def prior(self, n_components: int) -> Prior:
        """Return p(z) of all components of the code."""
        if self.means is None:
            return StandardNormal(n_components)
        classes = ClassNormals(
            torch.as_tensor(self.means), torch.as_tensor(self.shares)
        )
        rest = StandardNormal(n_components - classes.n_components)
        return BlockPrior([classes, rest])

    @property
    def blocks(self) -> dict[str, slice]:
        """Names of the blocks of the code, and their components."""
        if self.means is None:
            return {"z": slice(None)}
        n = self.means.shape[1]
        return {"target": slice(None, n), "rest": slice(n, None)}

    def write(self) -> dict:
        """Return this as arrays and plain values."""
        return {**vars(self), "classes_": self.classes_.tolist()}

    @classmethod
    def read(cls, value, n_columns: int) -> Target:
        """Take over what ``write`` returned, each entry checked."""
        names = ("kind", "classes_", "labels", "counts", "observed", "means")
        found = entries(value, names, "target")
        need(found["kind"] in TARGETS, "target", found["kind"])
        known = outcomes(found["classes_"], "classes_")
        need(2 <= len(known) <= MOST_CLASSES, "classes_", known)
        labels, observed = found["labels"], found["observed"]
        need(isinstance(labels, np.ndarray) and labels.ndim == 1, "labels", labels)
        shape = labels.shape
        labels = array(labels, np.int64, shape, "labels")
        counts = array(found["counts"], np.int64, shape, "counts")
        inside = len(labels) > 0 and labels.min() >= 0 and labels.max() < len(known)
        need(inside and counts.min() > 0, "labels", labels)
        if observed is not None:
            shape = (len(labels), n_columns)
            observed = array(observed, np.bool_, shape, "observed")
        means = found["means"]
        need((means is None) == (found["kind"] == "condition"), "means", means)
        if means is not None:
            need(isinstance(means, np.ndarray) and means.ndim == 2, "means", means)
            means = array(means, np.float64, (len(known), means.shape[1]), "means")
            every = np.unique(labels).tolist() == list(range(len(known)))
            need(every, "labels", labels)
        return cls(found["kind"], np.array(known), labels, counts, observed, means)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of the rows of a fit.

    Parameters
    ----------
    classes_ : ndarray of shape (k,)
        Classes, those of an earlier fit where it goes on.
    index : ndarray of shape (n,), int64
        The classes' positions; -1 of rows without a label.
    """

    classes_: np.ndarray
    index: np.ndarray

    def held_out(self, family, X, seed: int) -> np.ndarray | None:
        """Which rows X training is not to see, shape (n,), bool; None: too few.

        About a fifth of those that have a label. Each row is drawn by its values, its
        label and the seed: a fit that goes on, with more rows or in another order,
        holds out the same ones.
        """
        known = self.index >= 0
        counts = np.bincount(self.index[known])
        if counts[counts > 0].min() < FEWEST_ROWS:
            return None
        keys = [row_noise(family.keys(rows), seed, 2) for rows in row_blocks(X)]
        keyed = with_occurrence(np.column_stack([np.concatenate(keys), self.index]))
        out = known & (row_noise(keyed, seed, 1)[:, 0] < ndtri(HELD_OUT))
        drawn = np.bincount(self.index[out], minlength=len(counts))
        return None if drawn[counts > 0].min() < 2 else out

    def target(self, kind: str, family, X) -> Target:
        """Return what is learned of y, with the rows' patterns."""
        labels, counts, observed = [], [], []
        for label in np.unique(self.index[self.index >= 0]):
            rows = self.index == label
            patterns, found = family.patterns_of(X[rows])
            labels += [label] * len(found)
            counts.append(found)
            observed.append(patterns)
        joined = None
        if observed[0] is not None:
            joined = np.concatenate(observed)
        if joined is None or joined.all():
            joined = None
        return Target(
            kind, self.classes_, np.array(labels), np.concatenate(counts), joined
        )


class Labelled(NamedTuple):
    """Rows to train on, their classes, and what is asked of codes about these.

    ``labels`` (n,) are the classes' positions, -1 of rows without one, ``shares`` (k,)
    their frequencies, ``nats`` is `M_target`, ``seed`` that of the fit.
    """

    x: Any
    labels: np.ndarray
    shares: np.ndarray
    nats: float
    seed: int


def resolve_target(params) -> None:
    """Set "auto" to what it means for a target, and refuse what does not go with one.

    Parameters
    ----------
    params : MutualAutoencoder
        A copy, whose parameters are valid one by one.

    Raises
    ------
    ValueError
        If `encoder` has no density.
    """
    encoder, target = params.encoder, params.target
    if encoder == "auto":
        params.encoder = "resampling" if target is None else "gaussian"
    if target is None:
        return
    if encoder == "resampling":
        needs_y = "its weights hold p(x|z, y), so that transform would need y, and "
        raise ValueError(
            f"encoder='resampling' does not go with target={target!r}: "
            f"{needs_y if target == 'condition' else ''}the density of its code is an "
            "expectation, which no certificate can be made from. Use "
            "encoder='gaussian', or 'auto'."
        )
    if callable(encoder):
        # a callable's draws are not resampled, for the same reasons
        params.n_resamples = 1


def labels_of_fit(params, y, n: int, known: np.ndarray | None) -> Labels | None:
    """Read the labels that fit was given, or refuse them.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    y : array-like of shape (n,)
        Labels.
    n : int
        Number of rows.
    known : ndarray or None
        Classes of the fit to go on from.
    """
    target = params.target
    if target is None:
        return None
    if y is None:
        raise ValueError(
            f"target={target!r} requires y to be passed, but the target y is None: a "
            "label for each row. Pass fit(X, y), or set target=None."
        )
    if target == "code":
        values, labelled = some_labels(y, n)
    else:
        values, labelled = all_labels(y, n), np.ones(n, dtype=bool)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"y holds {values[~np.isfinite(values)][0]}, which is no class. Leave such "
            "rows out, or recode y."
        )
    if values.dtype.kind == "f" and (values != np.floor(values)).any():
        raise ValueError(
            f"y holds numbers with decimals, such as {_odd(values)!r}: a continuous "
            f"target. target={target!r} takes classes. Unknown label type: continuous. "
            "Cut y into a few groups, for example with KBinsDiscretizer."
        )
    classes = np.unique(values)
    if target == "code":
        _check_labelled(classes, labelled, known)
    if len(classes) > MOST_CLASSES:
        raise ValueError(
            f"y holds {len(classes)} different labels, and target={target!r} takes "
            f"{MOST_CLASSES} classes at most. Join some of them, or cut numbers into a "
            "few groups."
        )
    if known is None and 2 * len(classes) > n:
        raise ValueError(
            f"y holds {len(classes)} different labels for {n} rows: it looks like a "
            f"name of each row. target={target!r} takes classes of several rows each; "
            "join some of them, or drop those of one row."
        )
    index = np.full(n, UNLABELLED)
    if known is not None:
        index[labelled] = _positions(values, known)
        return Labels(known, index)
    if len(classes) < 2:
        raise ValueError(
            f"y holds one class, {classes[0].item()!r}: there is nothing to tell "
            f"apart. Pass rows of at least two for target={target!r}."
        )
    # as they come back from a file
    classes = np.array(classes.tolist())
    index[labelled] = _positions(values, classes)
    return Labels(classes, index)


def _check_labelled(classes, labelled, known: np.ndarray | None) -> None:
    """Refuse what is left where rows without a label are set apart."""
    if not len(classes):
        raise ValueError(
            f"y labels none of {len(labelled)} rows: all are -1 or missing, which "
            "stands for unlabelled with target='code'. Label some rows of each class, "
            "or set target=None."
        )
    if classes.dtype.kind in "iuf" and classes.tolist() == [1] and not labelled.all():
        raise ValueError(
            "y holds -1 and 1, and with target='code' -1 stands for unlabelled: one "
            "class is left. Recode y, for example as 0 and 1: (y > 0).astype(int)."
        )
    absent = set() if known is None else set(known.tolist()) - set(classes.tolist())
    if absent:
        raise ValueError(
            f"y labels no row of class {min(absent)!r}, which the fit that this one "
            "goes on from has seen. Label some rows of each class, or set "
            "warm_start=False."
        )


def _positions(values: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the positions of labels among classes, int64, or refuse unseen ones."""
    places = {label: i for i, label in enumerate(classes.tolist())}
    index = np.array([places.get(label, -1) for label in values.tolist()], int)
    if (index < 0).any():
        row = int(np.flatnonzero(index < 0)[0])
        known = ", ".join(map(repr, classes[:20].tolist()))
        raise ValueError(
            f"y holds {values[row].item()!r} in row {row}, a class that fit has not "
            f"seen. Pass some of {known}, or fit on rows of that class, too."
        )
    return index


def of_blocks(found: dict[str, Any]) -> Any:
    """Return what was found of the one block of a code, or a Bunch of several."""
    return found["z"] if found.keys() == {"z"} else Bunch(**found)


def target_nats(params, target: Target) -> float:
    """Return `M_target` in nats, "max" resolved, or refuse it."""
    entropy = target.entropy
    if params.M_target == 0 and target.kind == "code":
        raise ValueError(
            "M_target=0 with target='code' asks for a first block that knows nothing "
            f"of y. Pass 'max', or nats, of at most H(y)={entropy:.4g}."
        )
    if params.M_target == "max":
        nats = MAX_SHARE * entropy
        return nats if params.M is None else min(nats, params.M)
    most = entropy if params.M is None else min(params.M, entropy)
    if params.M_target > most:
        raise ValueError(
            f"M_target={params.M_target:g} is more than the {most:.4g} nats that "
            f"codes can hold about y: min(M, H(y)), with M={params.M} and H(y)="
            f"{entropy:.4g}. Lower M_target, or pass 'max', which is "
            f"{MAX_SHARE:g} H(y)."
        )
    return float(params.M_target)


def _odd(values: np.ndarray) -> float:
    return values[values != np.floor(values)][0].item()


def some_labels(y, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of those of n rows that have one, and which these are, (n,).

    Rows with -1 or a missing label have none.
    """
    values = _column(y, n)
    if values.dtype.kind == "U" and (values == "-1").any():
        raise ValueError(
            "y holds the string '-1' among its labels. With target='code' the number "
            "-1 or None stands for unlabelled: pass y as an array of objects with "
            "None, or name that class otherwise."
        )
    labelled = np.array([not _is_unlabelled(label) for label in values], dtype=bool)
    known = values[labelled]
    return all_labels(known, len(known)), labelled


def _is_unlabelled(label) -> bool:
    if is_missing(label):
        return True
    return isinstance(label, Real) and label == UNLABELLED


def _column(y, n: int) -> np.ndarray:
    """Return labels of n rows as an array (n,); a single one stands for all."""
    # (numpy would make strings of None and numbers beside strings)
    values = np.asarray(y, dtype=object if isinstance(y, list | tuple) else None)
    if values.ndim == 0:
        values = np.full(n, values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"y has shape {values.shape}. Pass one label for each row, shape ({n},)."
        )
    if len(values) != n:
        raise ValueError(
            f"y has {len(values)} labels, and there are {n} rows. Pass one for each: "
            "inconsistent numbers of samples."
        )
    return values


def all_labels(y, n: int) -> np.ndarray:
    """Return labels of n rows as an array of one type; a single one stands for all."""
    values = _column(y, n)
    missing = np.array([is_missing(label) for label in values], dtype=bool)
    if missing.any():
        raise ValueError(
            f"y has a missing label (NaN or None) in row {np.flatnonzero(missing)[0]}, "
            f"and in {missing.sum()} rows in all. The decoder needs that of each row: "
            "leave these rows out, or make a class of them, for example -1."
        )
    if values.dtype.kind in "OST":
        kinds = {type(plain_number(label)) for label in values}
        if kinds <= {str, np.str_}:
            values = values.astype(str)
        elif kinds <= {bool} or kinds <= {int, float}:
            values = np.array([plain_number(label) for label in values])
        else:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"y holds labels of type {names}. Pass strings, integers or booleans, "
                "all of one type, for example y.astype(str)."
            )
    if values.dtype.kind not in "biufU":
        raise ValueError(
            f"y holds labels of type {values.dtype}. Pass strings, integers or "
            "booleans, for example y.astype(str)."
        )
    return values
