"""Columns and frames of pandas, polars and pyarrow, read and made anew.

A column's type is written as a text that says all of it, except for the categories
that it declares. None of the libraries is needed before one of its frames is.
"""

import importlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import narwhals.stable.v2 as nw
import numpy as np

from sklearn_mae.columns.cells import Cells, objects, wrong_cell
from sklearn_mae.columns.column import Column

__all__ = ["LIBRARIES", "Library", "read_frame"]

ARROW_NUMBERS = r"u?int(8|16|32|64)|halffloat|float|double|bool"
ARROW_TEXTS = r"bool|(large_)?string|string_view"
DECIMAL = r"\((precision=)?\d+, (scale=)?\d+\)"
WITH_CATEGORIES = re.compile(r"category\[|ordered\[|Enum|dictionary<values=")
# which types hold which sort of outcomes; objects are of any
SORTS = {
    "boolean": re.compile("[bB]ool"),
    "text": re.compile("[sS]tr|large_string|Enum|Categorical"),
    "number": re.compile("u?int|float|double"),
}


class Library:
    """What one library calls its types, and how its frames are made."""

    name: str
    # types that come back, by kind: regular expressions
    known: ClassVar[dict[str, str]]
    # what any other type comes back as
    other: ClassVar[dict[str, str]]

    def describe(self, native: Any) -> tuple[str, list | None]:
        """Return the type of a column as text, and the categories it declares."""
        raise NotImplementedError

    def frame(
        self,
        columns: Sequence[Column],
        values: np.ndarray,
        round: list[bool],
        index: Any,
    ) -> Any:
        """Return a frame of encoded rows (n, D)."""
        raise NotImplementedError

    def knows(self, column: Column) -> bool:
        """Whether columns of that kind and type can be made."""
        if re.fullmatch(self.known[column.kind], column.dtype) is None:
            return False
        declares = WITH_CATEGORIES.match(column.dtype)
        if (declares is None) != (column.declared is None):
            return False
        inner = column.dtype.removeprefix("" if declares is None else declares[0])
        sorts = [sort for sort in SORTS if SORTS[sort].match(inner or column.dtype)]
        return not sorts or column.sort in (None, *sorts)

    def adopt(self, column: Column) -> None:
        """Give a column a type that can be made, if its own cannot."""
        if not self.knows(column):
            column.dtype, column.declared = self.other[column.kind], None

    def module(self) -> Any:
        """Return the library itself.

        Raises
        ------
        ImportError
            If it is not installed.
        """
        try:
            return importlib.import_module(self.name)
        except ImportError as error:
            raise ImportError(
                f"This estimator was fitted on a table of {self.name} and gives its "
                f"rows back as one, but {self.name} cannot be imported ({error}). "
                f"Install it: pip install {self.name}."
            ) from error


class Pandas(Library):
    """Frames of pandas, whose columns are numpy's, its own or pyarrow's."""

    name = "pandas"
    known: ClassVar = {
        "numeric": r"bool|boolean|u?int(8|16|32|64)|U?Int(8|16|32|64)"
        rf"|[fF]loat(16|32|64)|object|object\[int64\]|({ARROW_NUMBERS})\[arrow\]",
        "category": rf"bool|boolean|object|({ARROW_TEXTS})\[arrow\]"
        r"|str\[(python|pyarrow)\]|string\[(python|pyarrow)\]"
        r"|(category|ordered)\[(object|bool|boolean|u?int(8|16|32|64)|float(32|64)"
        r"|str\[(python|pyarrow)\]|string\[(python|pyarrow)\])\]",
    }
    other: ClassVar = {"numeric": "float64", "category": "object"}

    def describe(self, native: Any) -> tuple[str, list | None]:
        pandas = self.module()
        dtype = native.dtype
        if isinstance(dtype, pandas.CategoricalDtype):
            categories = dtype.categories
            start = "ordered" if dtype.ordered else "category"
            name = self._name(pandas, categories.dtype)
            text = f"{start}[{name}]"
            if re.fullmatch(self.known["category"], text) is None:
                text = f"{start}[object]"
            return text, categories.tolist()
        return self._name(pandas, dtype), None

    @staticmethod
    def _name(pandas: Any, dtype: Any) -> str:
        if isinstance(dtype, pandas.StringDtype):
            start = "string" if dtype.na_value is pandas.NA else "str"
            return f"{start}[{dtype.storage}]"
        if isinstance(dtype, pandas.ArrowDtype):
            return f"{dtype.pyarrow_dtype}[arrow]"
        return str(dtype)

    @staticmethod
    def _dtype(pandas: Any, name: str) -> Any:
        start, _, rest = name.removesuffix("]").partition("[")
        if rest == "arrow":
            return pandas.ArrowDtype(
                LIBRARIES["pyarrow"].module().type_for_alias(start)
            )
        if start == "string":
            return pandas.StringDtype(rest)
        if start == "str":
            return pandas.StringDtype(rest, na_value=np.nan)
        return pandas.api.types.pandas_dtype(name)

    def frame(
        self,
        columns: Sequence[Column],
        values: np.ndarray,
        round: list[bool],
        index: Any,
    ) -> Any:
        pandas = self.module()
        if index is None:
            index = pandas.RangeIndex(len(values))
        make = {"numeric": self._numbers, "category": self._categories}
        series = {}
        for j, column in enumerate(columns):
            found = make[column.kind](pandas, column, values[:, j], round[j])
            # (without it objects would be searched for a type of their own)
            series[j] = pandas.Series(found, index, dtype=found.dtype, copy=False)
        frame = pandas.DataFrame(series, index=index)
        frame.columns = [column.label for column in columns]
        return frame

    def _numbers(self, pandas: Any, column: Column, values: np.ndarray, round: bool):
        numbers, name = column.numbers(values, round), column.dtype
        missing = np.isnan(numbers)
        if column.limits is not None:
            nullable = name == "boolean" or name[0] in "IU"
            if not round:
                arrow = name.endswith("[arrow]")
                name = "double[arrow]" if arrow else "float64"
                name = "Float64" if nullable else name
            elif missing.any() and name == "bool":
                name = "object[bool]"
            elif missing.any() and re.fullmatch(r"u?int\d+", name):
                name = "float64"
        if name.startswith("object"):
            cast = {"object[int64]": int, "object[bool]": bool}.get(name, float)
            result = objects(map(cast, np.where(missing, 0, numbers)), len(numbers))
            result[missing] = column.hole
            return result
        if name == "bool" or re.fullmatch(r"u?int\d+|float\d+", name):
            return numbers.astype(name)
        return pandas.array(numbers, dtype=self._dtype(pandas, name))

    def _categories(self, pandas: Any, column: Column, values: np.ndarray, _: bool):
        name = column.dtype
        if column.declared is not None:
            start, inner = name.removesuffix("]").split("[", maxsplit=1)
            declared = pandas.Index(column.declared, dtype=self._dtype(pandas, inner))
            dtype = pandas.CategoricalDtype(declared, ordered=start == "ordered")
            codes = column.declared_codes(values)
            return pandas.Categorical.from_codes(codes, dtype=dtype)
        if name == "object" or (name == "bool" and np.isnan(values).any()):
            return column.outcomes(values, column.hole)
        if name == "bool":
            return column.outcomes(values, None).astype(bool)
        found = column.outcomes(values, None)
        return pandas.array(found, dtype=self._dtype(pandas, name))


class Polars(Library):
    """Frames of polars."""

    name = "polars"
    known: ClassVar = {
        "numeric": rf"U?Int(8|16|32|64|128)|Float(16|32|64)|Boolean|Decimal{DECIMAL}",
        "category": "String|Boolean|Categorical|Enum|Object",
    }
    other: ClassVar = {"numeric": "Float64", "category": "Object"}

    def describe(self, native: Any) -> tuple[str, list | None]:
        polars, dtype = self.module(), native.dtype
        if dtype == polars.Enum:
            return "Enum", dtype.categories.to_list()
        known = isinstance(dtype, polars.Categorical)  # (its categories have names)
        return "Categorical" if known else str(dtype), None

    def frame(
        self,
        columns: Sequence[Column],
        values: np.ndarray,
        round: list[bool],
        index: Any,
    ) -> Any:
        polars = self.module()
        return polars.DataFrame(
            [
                self._series(polars, column, values[:, j], round[j])
                for j, column in enumerate(columns)
            ]
        )

    @staticmethod
    def _series(polars: Any, column: Column, values: np.ndarray, round: bool):
        name, label = column.dtype, column.label
        if column.kind == "numeric":
            numbers = column.numbers(values, round)
            series = polars.Series(label, numbers, nan_to_null=True)
            if column.limits is not None and not round:
                return series
            if name.startswith("Decimal"):
                dtype = polars.Decimal(*map(int, re.findall(r"\d+", name)))
            else:
                dtype = getattr(polars, name)
            return series.cast(dtype)
        dtype = getattr(polars, name)
        if name == "Enum":
            dtype = polars.Enum(column.declared)
        found = column.outcomes(values, None).tolist()
        return polars.Series(label, found, dtype=dtype)


class PyArrow(Library):
    """Tables of pyarrow."""

    name = "pyarrow"
    known: ClassVar = {
        "numeric": rf"{ARROW_NUMBERS}|decimal128{DECIMAL}",
        "category": rf"{ARROW_TEXTS}"
        r"|dictionary<values=(bool|(large_)?string|u?int(8|16|32|64)|float|double)"
        r", indices=u?int(8|16|32|64), ordered=[01]>",
    }
    other: ClassVar = {"numeric": "double", "category": "string"}

    def describe(self, native: Any) -> tuple[str, list | None]:
        text, declared = str(native.type), None
        if text.startswith("dictionary"):
            listed = (
                x for chunk in native.chunks for x in chunk.dictionary.to_pylist()
            )
            # (chunks may differ, and hold a category twice, or null)
            declared = [each for each in dict.fromkeys(listed) if each is not None]
        return text, declared

    def frame(
        self,
        columns: Sequence[Column],
        values: np.ndarray,
        round: list[bool],
        index: Any,
    ) -> Any:
        pyarrow = self.module()
        arrays = [
            self._array(pyarrow, column, values[:, j], round[j])
            for j, column in enumerate(columns)
        ]
        return pyarrow.table(arrays, names=[column.label for column in columns])

    @staticmethod
    def _array(pyarrow: Any, column: Column, values: np.ndarray, round: bool):
        name, alias = column.dtype, pyarrow.type_for_alias
        if column.kind == "numeric":
            numbers = np.ascontiguousarray(column.numbers(values, round))
            array = pyarrow.array(numbers, from_pandas=True)
            if column.limits is not None and not round:
                return array
            if name.startswith("decimal"):
                precision, scale = map(int, re.findall(r"\d+", name)[1:])
                return array.cast(pyarrow.decimal128(precision, scale))
            return array.cast(alias(name))
        if column.declared is None:
            found = column.outcomes(values, None).tolist()
            return pyarrow.array(found, type=alias(name))
        kind, index, ordered = re.findall(r"=(\w+)", name)
        codes = column.declared_codes(values)
        return pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(codes, mask=codes < 0).cast(alias(index)),
            pyarrow.array(column.declared, type=alias(kind)),
            ordered=ordered == "1",
        )


LIBRARIES: dict[str, Library] = {
    library.name: library for library in (Pandas(), Polars(), PyArrow())
}


def read_frame(frame: nw.DataFrame) -> tuple[str, list[Cells]]:
    """Return which library a frame comes back as, and its columns."""
    name = frame.implementation.value
    if name not in LIBRARIES:  # others are close to pandas
        frame, name = nw.from_native(frame.to_pandas(), eager_only=True), "pandas"
    native: Any = frame.to_native()
    labels = native.columns.tolist() if name == "pandas" else frame.columns
    return name, [
        _read_series(LIBRARIES[name], label, series)
        for label, series in zip(labels, frame.iter_columns(), strict=True)
    ]


def _read_series(library: Library, label: Any, series: Any) -> Cells:
    if series.dtype.is_temporal():
        raise wrong_cell(
            label,
            next(iter(series.drop_nulls().head(1).to_list()), None),
            f", a column of type {series.dtype}: dates and durations are not "
            "modelled. Turn them into numbers, for example of days, or drop the "
            "column.",
        )
    dtype, declared = library.describe(series.to_native())
    if series.dtype.is_numeric():
        values = series.cast(nw.Float64).to_numpy()
        return Cells(label, values.astype(np.float64, copy=False), dtype)
    values = objects(series.to_list(), len(series))
    categorical = dtype != "object" and isinstance(
        series.dtype, nw.String | nw.Boolean | nw.Categorical | nw.Enum
    )
    return Cells(label, values, dtype, declared, categorical)
