"""What ``fit`` learned of one column: its kind, its outcomes, how it looks."""

import dataclasses
import re
from collections.abc import Hashable
from numbers import Integral

import numpy as np

from sklearn_mae.columns.cells import (
    MAX_DECIMALS,
    Cells,
    Outcome,
    decimals_of,
    objects,
    plain,
    rounded,
    sort_of,
    wrong_cell,
)
from sklearn_mae.records import entries, need, outcomes

__all__ = ["Column"]

# which sorts of entries new rows may have, by the sort of the outcomes
ALLOWED = {
    "text": {"text"},
    "boolean": {"boolean", "number"},
    "number": {"boolean", "number"},
    None: {"text", "boolean", "number"},
}
WORDS = {"text": "strings", "boolean": "booleans", "number": "numbers"}
# narrower than float64: what libraries call them
NARROW = {
    "float16": np.float16,
    "halffloat": np.float16,
    "float32": np.float32,
    "float": np.float32,
}


@dataclasses.dataclass
class Column:
    """One column, all of it plain values.

    Attributes
    ----------
    label : hashable
        Name of the column, its position if it has none.
    kind : {"numeric", "category"}
        What it is to a model.
    dtype : str
        Type in a table, by which ``natives.py`` makes it anew.
    categories : list of str, bool or numbers, or None
        Outcomes seen in ``fit``, in order; None for numbers.
    declared : list of str, bool or numbers, or None
        Outcomes that the type declares, seen or not.
    decimals : int or None
        Decimals of the numbers, None for as many as a float has.
    hole : None or NaN
        What stands for a missing entry where entries are objects.
    empty : bool
        Whether ``fit`` saw missing entries only.
    seen : tuple of two float, or None
        Least and largest number that ``fit`` saw in a frame.
    """

    label: Hashable
    kind: str
    dtype: str
    categories: list[Outcome] | None
    declared: list[Outcome] | None
    decimals: int | None
    hole: float | None
    empty: bool
    seen: tuple[float, float] | None

    # -- fit ---------------------------------------------------------------------------

    @classmethod
    def fit(cls, cells: Cells, wanted: str | None, *, in_frame: bool) -> "Column":
        """Judge a column.

        Parameters
        ----------
        cells : Cells
            The column.
        wanted : {"numeric", "category"} or None
            What it must be: numeric columns hold no strings. Numbers are numeric in
            any case, since they are codes of categories as they stand.
        in_frame : bool
            Whether the column is to look as it did; from arrays come plain floats.

        Raises
        ------
        TypeError
            If the column holds what it may not.
        """
        # what a category may be counts, not which of them are there
        examples = cells.examples if cells.declared is None else cells.declared_examples
        if wanted == "numeric":
            if "text" in examples:
                raise wrong_cell(
                    cells.label,
                    examples["text"],
                    ", but is to be modelled as numbers, and strings are never read "
                    "as numbers. Convert the column to a numeric type, or let "
                    "likelihood='auto' model it as categories.",
                )
            numeric = True
        else:
            if len(examples) > 1:
                first, second = list(examples)[:2]
                other = examples[second]
                raise wrong_cell(
                    cells.label,
                    examples[first],
                    f" beside {other!r} of type {type(other).__name__}. A column holds "
                    "numbers, or strings, or booleans, apart from missing entries: "
                    "convert all of it to one of them, for example by astype(str) or "
                    "pandas.to_numeric, or drop it.",
                )
            numbers = set(examples) <= {"number"} and cells.declared is None
            numeric = numbers and not cells.categorical
        return cls(
            cells.label,
            "numeric" if numeric else "category",
            "object[int64]" if in_frame and _are_integers(cells) else cells.dtype,
            None if numeric else _categories(cells),
            None if numeric or cells.declared is None else _plain(cells.declared),
            _decimals(cells) if numeric and in_frame else None,
            _hole(cells),
            not cells.examples,
            _range(cells.floats()) if numeric and in_frame else None,
        )

    # -- encode ------------------------------------------------------------------------

    def encode(self, cells: Cells) -> tuple[np.ndarray, list]:
        """Return new entries as numbers, and those that ``fit`` did not see.

        Parameters
        ----------
        cells : Cells
            The column of new rows.

        Returns
        -------
        values : ndarray of shape (n,), of float64
            Numbers, or indices of categories; NaN where missing or not seen.
        unseen : list
            Distinct entries of no known category.

        Raises
        ------
        TypeError
            If an entry is of another sort than those of ``fit``.
        """
        if self.kind == "numeric":
            return self._encode_numbers(cells)
        return self._encode_categories(cells)

    def _encode_numbers(self, cells: Cells) -> tuple[np.ndarray, list]:
        if cells.values.dtype != object or "text" not in cells.examples:
            return cells.floats(), []
        if not self.empty:
            raise wrong_cell(
                self.label,
                cells.examples["text"],
                ", but is numeric since fit, and strings are never read as numbers. "
                "Convert the column to the type that it had in fit.",
            )
        texts = (value for value in cells.present if isinstance(value, str))
        return cells.floats(), list(dict.fromkeys(texts))

    def _encode_categories(self, cells: Cells) -> tuple[np.ndarray, list]:
        for sort, value in cells.examples.items():
            if sort not in ALLOWED[self.sort]:
                raise self._other_sort(value)
        table = {outcome: float(i) for i, outcome in enumerate(self.categories or ())}
        present = cells.present
        found = np.array([table.get(value, np.nan) for value in present], np.float64)
        unseen = [present[i] for i in np.flatnonzero(np.isnan(found))]
        if self.sort == "boolean":
            for value in unseen:
                if value not in (0, 1):
                    raise self._other_sort(value)
        values = np.full(len(cells.values), np.nan)
        values[~cells.missing] = found
        return values, list(dict.fromkeys(unseen))

    @property
    def known_outcomes(self) -> np.ndarray | None:
        """The outcomes as an array of objects, None for numbers."""
        if self.categories is None:
            return None
        return objects(self.categories, len(self.categories))

    @property
    def sort(self) -> str | None:
        """The sort of the outcomes, None if there are none."""
        known = self.categories or self.declared
        return sort_of(type(known[0])) if known else None

    def _other_sort(self, value) -> TypeError:
        known = (self.categories or self.declared or [])[:3]
        return wrong_cell(
            self.label,
            value,
            f", but held {WORDS[self.sort or 'text']} in fit, such as "
            f"{', '.join(map(repr, known))}. Convert the column to the type that it "
            "had in fit.",
        )

    # -- decode ------------------------------------------------------------------------

    @property
    def limits(self) -> tuple[float, float] | None:
        """Least and largest number that the type holds, None for floats."""
        if self.dtype.startswith("bool") or self.dtype == "Boolean":
            return 0.0, 1.0
        if found := re.search(r"(u?)int(\d+)", self.dtype.lower()):
            signed, bits = not found[1], int(found[2])
            high = 2.0 ** (bits - signed)
            # the largest float below, where it has no digits to the right of the point
            last = high - 1 if bits < 53 else np.nextafter(high, 0)
            return (-high if signed else 0.0), float(last)
        if found := re.search(r"ecimal\w*\(\D*(\d+), \D*(\d+)\)", self.dtype):
            precision, scale = int(found[1]), int(found[2])
            last = (10**precision - 1) / 10**scale
            return -last, last
        return None

    def numbers(self, values: np.ndarray, round: bool) -> np.ndarray:
        """Return numbers with the decimals and in the range of the column."""
        if not round:
            return values
        if self.decimals is not None:
            values = rounded(values, self.decimals)
        return values if self.limits is None else np.clip(values, *self.limits)

    def seeing(self, values: np.ndarray) -> "Column":
        """Return a copy whose range holds more numbers, NaN where one is missing."""
        if self.kind != "numeric":
            return self
        both = values if self.seen is None else np.append(values, self.seen)
        return dataclasses.replace(self, seen=_range(both))

    def within(self, values: np.ndarray) -> np.ndarray:
        """Return numbers, those beyond what ``fit`` saw at its ends."""
        return values if self.seen is None else np.clip(values, *self.seen)

    def outcomes(self, values: np.ndarray, hole: float | None) -> np.ndarray:
        """Return what the indices of categories stand for, as objects."""
        known = self.categories or []
        table = objects([*known, hole], len(known) + 1)
        return table[_indices(values)]

    def declared_codes(self, values: np.ndarray) -> np.ndarray:
        """Return indices of declared categories for those of seen ones, -1: missing."""
        declared = {outcome: i for i, outcome in enumerate(self.declared or ())}
        places = [declared[outcome] for outcome in self.categories or ()]
        return np.array([*places, -1])[_indices(values)]

    # -- state -------------------------------------------------------------------------

    def write(self) -> dict:
        """Return plain values that ``read`` takes."""
        state = dataclasses.asdict(self)
        if type(self.label) not in (str, int):
            state["label"] = str(self.label)
        return state

    @classmethod
    def read(cls, state) -> "Column":
        """Return a column that was written, or refuse it."""
        fields = [field.name for field in dataclasses.fields(cls)]
        column = cls(**entries(state, fields, "columns"))
        need(type(column.label) in (str, int), "label", column.label)
        need(column.kind in ("numeric", "category"), "kind", column.kind)
        need(type(column.dtype) is str, "dtype", column.dtype)
        need(type(column.empty) is bool, "empty", column.empty)
        hole = column.hole
        good = hole is None or (type(hole) is float and np.isnan(hole))
        need(good, "hole", hole)
        if column.kind == "numeric":
            need(column.categories is None, "categories", column.categories)
            need(column.declared is None, "declared", column.declared)
            k = column.decimals
            good = k is None or (type(k) is int and 0 <= k <= MAX_DECIMALS)
            need(good, "decimals", k)
            column.seen = _read_range(column.seen)
            return column
        need(column.decimals is None, "decimals", column.decimals)
        need(column.seen is None, "seen", column.seen)
        column.categories = outcomes(column.categories, "categories")
        if column.declared is not None:
            column.declared = outcomes(column.declared, "declared")
            known = set(column.categories) <= set(column.declared)
            need(known, "declared", column.declared)
        return column


def _categories(cells: Cells) -> list[Outcome]:
    found = set(map(plain, set(cells.present)))
    if cells.declared is None:
        return sorted(found)
    return [each for each in _plain(cells.declared) if each in found]


def _plain(values: list) -> list[Outcome]:
    return [plain(value) for value in values]


def _decimals(cells: Cells) -> int | None:
    name = cells.dtype.lower().partition("[")[0]
    return decimals_of(cells.floats(), NARROW.get(name, np.float64))


def _range(values: np.ndarray) -> tuple[float, float] | None:
    found = values[np.isfinite(values)]
    return (float(found.min()), float(found.max())) if len(found) else None


def _read_range(seen) -> tuple[float, float] | None:
    if seen is None:
        return None
    good = type(seen) in (list, tuple) and len(seen) == 2
    need(good and all(type(end) is float for end in seen), "seen", seen)
    low, high = seen
    need(-np.inf < low <= high < np.inf, "seen", seen)
    return low, high


def _are_integers(cells: Cells) -> bool:
    """Whether a column of objects holds integers only."""
    kinds = set(map(type, cells.present)) if cells.dtype == "object" else set()
    # (Python counts its booleans among them)
    integers = (
        issubclass(kind, Integral) and sort_of(kind) == "number" for kind in kinds
    )
    return bool(kinds) and all(integers)


def _hole(cells: Cells) -> float | None:
    if cells.values.dtype != object or not cells.missing.any():
        return np.nan
    first = cells.values[cells.missing.argmax()]
    return np.nan if isinstance(first, float) else None


def _indices(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), -1, values).astype(np.intp)
