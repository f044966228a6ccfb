"""Fit a synthesizer of SDV to a CSV and write samples: run by ``bench_tables.py``.

    python benchmarks/table_peers.py TVAE train.csv numeric,columns 5000 samples.csv

It runs in an environment of its own, and prints the CPU seconds of the fit.
"""

import json
import sys
import time
import warnings

import pandas as pd
import torch
from sdv.metadata import Metadata
from sdv.single_table import (
    CTGANSynthesizer,
    GaussianCopulaSynthesizer,
    TVAESynthesizer,
)

PEERS = {
    "TVAE": TVAESynthesizer,
    "GaussianCopula": GaussianCopulaSynthesizer,
    "CTGAN": CTGANSynthesizer,
}


def main():
    """Read, fit, sample, write."""
    peer, train, numeric, n, out = sys.argv[1:]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = pd.read_csv(train)
    numeric = numeric.split(",")
    # told, not guessed: integers may be taken for identifiers or postcodes
    columns = {
        column: {"sdtype": "numerical" if column in numeric else "categorical"}
        for column in table.columns
    }
    metadata = Metadata.load_from_dict({"tables": {"table": {"columns": columns}}})
    synthesizer = PEERS[peer](metadata)
    start = time.process_time()
    synthesizer.fit({"table": table})
    seconds = time.process_time() - start
    samples = synthesizer.sample(int(n))
    if isinstance(samples, dict):
        samples = samples["table"]
    samples.to_csv(out, index=False)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
