"""Rows of long benchmarks: kept in a CSV as they come, so that a run can go on."""

import csv
from pathlib import Path


def read(path: Path) -> list[dict]:
    """Rows of an earlier run."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, fields, row: dict) -> None:
    """Write one row, after a header if it is the first."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)
