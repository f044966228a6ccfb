"""Samples of peers that live in an environment of their own."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pandas as pd
from table_data import numeric_columns


def samples_of_peer(peer: str, table: pd.DataFrame, n: int, python: str):
    """Fit a peer in its own environment; return samples and CPU seconds of the fit."""
    with tempfile.TemporaryDirectory() as folder:
        train, out = Path(folder) / "train.csv", Path(folder) / "samples.csv"
        table.to_csv(train, index=False)
        script = Path(__file__).with_name("table_peers.py")
        numeric = ",".join(numeric_columns(table))
        done = subprocess.run(
            [python, script, peer, train, numeric, str(n), out],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        seconds = json.loads(done.stdout.splitlines()[-1])["seconds"]
        return pd.read_csv(out), f"{seconds:.1f}"
