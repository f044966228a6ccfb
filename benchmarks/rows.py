"""What benchmarks share: options, rows that a CSV keeps, timed fits."""

import argparse
import csv
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

RESULTS = Path("benchmarks/results")


def parser(doc: str, out: str, *, table=True, **defaults) -> argparse.ArgumentParser:
    """Return a parser with the options that benchmarks share.

    Parameters
    ----------
    doc : str
        The script's docstring: its first line is the description.
    out : str
        Default of ``--out``, within ``RESULTS``.
    table : bool
        Whether there is ``--table``, which summarises and runs nothing.
    **defaults
        Of ``--data``, ``--M`` and ``--seeds``, where the script has these options.
    """
    options = argparse.ArgumentParser(description=doc.splitlines()[0])
    for name, kind in (
        ("data", {"nargs": "+"}),
        ("M", {"nargs": "+", "type": float}),
        ("seeds", {"type": int}),
    ):
        if name in defaults:
            options.add_argument(f"--{name}", default=defaults[name], **kind)
    options.add_argument("--out", default=str(RESULTS / out))
    if table:
        options.add_argument("--table", action="store_true")
    return options


def read(path: Path) -> list[dict]:
    """Read the rows of a CSV; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, fields: Iterable[str], row: dict) -> None:
    """Write one row, after a header if it is the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)


class Results:
    """Rows of a CSV, each written as soon as it is known, so that a run can go on.

    A case is a dict of columns and values; its rows are those that have these values.

    Parameters
    ----------
    path : str or Path
        Of the CSV.
    fields : sequence of str
        Its columns.
    complete : bool
        Whether no case counts as missing, as with ``--table``.
    """

    def __init__(self, path: str | Path, fields, complete: bool = False):
        self.path, self.fields, self.complete = Path(path), fields, complete
        self.rows = read(self.path)

    def of(self, case: dict) -> list[dict]:
        """Return the rows of a case."""
        wanted = {name: _comparable(value) for name, value in case.items()}
        return [
            row
            for row in self.rows
            if all(_comparable(row[name]) == value for name, value in wanted.items())
        ]

    def missing(self, cases: Iterable[dict]) -> Iterator[dict]:
        """Yield the cases that have no row."""
        if not self.complete:
            yield from (case for case in cases if not self.of(case))

    def add(self, row: dict) -> None:
        """Write a row and print it."""
        append(self.path, self.fields, row)
        self.rows.append({name: str(row.get(name, "")) for name in self.fields})
        print({name: value for name, value in row.items() if value != ""}, flush=True)


def _comparable(value) -> str:
    """Return one string for 1, 1.0 and "1.0", and one for None, "" and "none"."""
    if value in (None, ""):
        return "none"
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def timed_fit(mae, X, clock: Callable[[], float] = time.process_time) -> tuple:
    """Fit; return the seconds that it took and the warnings that it gave."""
    start = clock()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mae.fit(X)
    return clock() - start, caught


def messages(caught) -> str:
    """Join the messages of warnings."""
    return " ".join(str(warning.message) for warning in caught)


def said(mae, seconds: float, caught) -> dict:
    """Return bracket, rate, time and warnings of a fit."""
    low, high = mae.mutual_info_interval_
    return {
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "rate": f"{mae.rate_:.4f}",
        "seconds": f"{seconds:.1f}",
        "warning": messages(caught),
    }
