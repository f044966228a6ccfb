"""Speed and memory of training, beside a hand-written loop and other packages.

    python benchmarks/bench_speed.py [--what step rows] [--rounds 5]

All seconds are CPU time, on one torch thread. Rows are written as they come; what the
CSV has is not run again, ``--table`` only summarises it. Packages that are not
installed are left out, and a line says so (``benchmarks/requirements.txt``, for a
virtual environment of their own).

- ``step``: a step of training. Each round runs all cases of a model in turn on the same
  machine. What counts is the ratio of two cases within a round, and its median over
  rounds. ``loop`` is a variational autoencoder of the same sizes as a plain PyTorch
  loop with fused Adam, ``skorch`` a stock ``skorch.NeuralNet``, ``pythae`` that
  package's VAE and trainer. The others are fits that end with their training, without
  landing and certificate; calibrations are as frequent as in a fit of default length.
- ``rows``: the same default step for tables of 1,000 to 1,000,000 rows of 20 columns,
  each in a process of its own: 400 steps after 100 that are not counted, without
  calibrations, whose number does not depend on the rows.

Columns: ``seconds`` of all ``steps``; ``megabytes``, the peak of memory during these
steps beyond what was in use before them, and ``fit_megabytes``, the peak of the fit
until their end beyond what was in use with X loaded. Whole fits: ``bench_fits.py``.
"""

import contextlib
import functools
import importlib.util
import io
import logging
import math
import multiprocessing
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rows import Results, parser
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sklearn_mae import MutualAutoencoder, SequenceVectorizer
from sklearn_mae.datasets import make_sentences
from sklearn_mae.families import row_family
from sklearn_mae.training import MutualAutoencoderNet

FIELDS = (
    "what",
    "model",
    "case",
    "n",
    "round",
    "steps",
    "seconds",
    "megabytes",
    "fit_megabytes",
)
BATCH, LR = 128, 1e-3
SIZES = (1_000, 10_000, 100_000, 1_000_000)
UNCOUNTED, COUNTED = 100, 400


@dataclass(frozen=True)
class Model:
    """Rows and networks of a comparison, and how long it runs."""

    n_rows: int
    n_features: int
    n_components: int
    hidden: tuple[int, ...]
    steps: int
    likelihood: str = "gaussian"

    @functools.cached_property
    def X(self) -> np.ndarray:
        """Rows near a curved surface; of texts word numbers."""
        if self.likelihood == "sequence":
            texts = make_sentences(self.n_rows, random_state=0).data
            return SequenceVectorizer().fit_transform(texts)
        return table(self.n_rows, self.n_features, self.n_components)

    @property
    def batch_size(self) -> int:
        """Rows of a batch, at most."""
        return 32 if self.likelihood == "sequence" else BATCH

    @property
    def n_batches(self) -> int:
        """Steps of an epoch."""
        return -(-self.n_rows // self.batch_size)

    @property
    def epochs(self) -> int:
        """Epochs of about so many steps."""
        return max(1, self.steps // self.n_batches)


MODELS = {
    "toy": Model(150, 4, 2, (16,), 1_000),
    "tabular": Model(3_840, 64, 8, (128, 128), 480),
    "wide": Model(3_840, 784, 8, (512, 512), 60),
    "text": Model(2_000, 0, 8, (128, 128), 63, "sequence"),
}
# parameters of the estimator, by case
FITS: dict[str, dict] = {
    "M=None, gaussian": {"M": None, "encoder": "gaussian"},
    "M=None": {"M": None},
    "default": {},
    "gaussian": {"encoder": "gaussian"},
    "paper": {"constraint": "paper"},
}
# what is compared: a title, the slower and the faster, and the models
COMPARISONS = (
    ("samples/s, M=None gaussian / loop with fused Adam", "loop", "M=None, gaussian"),
    ("samples/s, M=None gaussian / stock skorch", "skorch", "M=None, gaussian"),
    ("samples/s, M=None gaussian / pythae", "pythae", "M=None, gaussian"),
    ("time, default / M=None, same encoder", "default", "M=None"),
    ("time, M=3 / M=None, Gaussian encoder", "gaussian", "M=None, gaussian"),
    ("time, the paper's rule / M=None, same encoder", "paper", "M=None"),
)


def table(n: int, n_features: int, n_components: int) -> np.ndarray:
    """Draw rows near a curved surface."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(n, n_components))
    X = np.tanh(codes @ rng.normal(size=(n_components, n_features)))
    X += 0.3 * rng.normal(size=X.shape)
    return X


# A step


def standardised(model: Model) -> np.ndarray:
    """Return the rows as loops take them."""
    X = model.X
    return ((X - X.mean(0)) / X.std(0)).astype(np.float32)


def network(n_inputs: int, hidden: tuple[int, ...], n_outputs: int) -> nn.Sequential:
    """Return a fully connected network."""
    layers: list[nn.Module] = []
    for before, after in zip((n_inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], n_outputs))


class VAE(nn.Module):
    """A variational autoencoder as a textbook has it."""

    def __init__(self, model: Model):
        super().__init__()
        D, d = model.n_features, model.n_components
        self.encoder = network(D, model.hidden, 2 * d)
        self.decoder = network(d, model.hidden, D)
        self.log_scale = nn.Parameter(torch.zeros(D))

    def forward(self, x):
        """Return the parameters of p(x|z) and of q(z|x)."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decoder(z), self.log_scale, mean, log_variance


class NegativeELBO(nn.Module):
    """Minus the ELBO, in nats."""

    def forward(self, output, x):
        """Return the batch's mean."""
        loc, log_scale, mean, log_variance = output
        e = (x - loc) * (-log_scale).exp()
        log_likelihood = -(0.5 * e.square() + log_scale).sum(-1)
        log_likelihood = log_likelihood - 0.5 * x.shape[-1] * math.log(2 * math.pi)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        return (kl - log_likelihood).mean()


def loop(model: Model) -> tuple[float, int]:
    """Return the seconds and the steps of a plain PyTorch loop."""
    x, vae, criterion = torch.tensor(standardised(model)), VAE(model), NegativeELBO()
    optimizer = torch.optim.Adam(vae.parameters(), lr=LR, fused=True)
    start = time.process_time()
    for _ in range(model.epochs):
        for rows in torch.randperm(len(x)).tensor_split(model.n_batches):
            batch = x[rows]
            loss = criterion(vae(batch), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # as a loop that reports its loss
    return time.process_time() - start, model.epochs * model.n_batches


def stock_skorch(model: Model) -> tuple[float, int]:
    """Return the same of a ``NeuralNet`` of which nothing is overridden."""
    X = standardised(model)
    net = NeuralNet(
        VAE,
        module__model=model,
        criterion=NegativeELBO,
        optimizer=torch.optim.Adam,
        lr=LR,
        max_epochs=model.epochs,
        batch_size=model.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).initialize()
    start = time.process_time()
    net.partial_fit(X, X)
    return time.process_time() - start, model.epochs * model.n_batches


def pythae_vae(model: Model) -> tuple[float, int]:
    """Return the same of pythae's VAE, which has a fixed noise, and its trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    # (the trainer pickles these classes, and with them what they refer to)
    D, d, hidden = model.n_features, model.n_components, model.hidden

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.network = network(D, hidden, 2 * d)

        def forward(self, x):
            mean, log_variance = self.network(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.network = network(d, hidden, D)

        def forward(self, z):
            return ModelOutput(reconstruction=self.network(z))

    config = VAEConfig(input_dim=(D,), latent_dim=d, reconstruction_loss="mse")
    x = torch.tensor(standardised(model))
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            PythaeVAE(config, Encoder(), Decoder()),
            train_dataset=BaseDataset(x, torch.ones(len(x))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=model.epochs,
                per_device_train_batch_size=model.batch_size,
                learning_rate=LR,
                no_cuda=True,
            ),
        )
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            start = time.process_time()
            trainer.train()
    return time.process_time() - start, model.epochs * model.n_batches


class Trained(Exception):
    """Ends a fit with its training; carries what was measured."""


class Timed(Callback):
    """Times the training, then ends the fit."""

    def on_train_begin(self, net, **kwargs):
        """Start."""
        self.start_ = time.process_time()

    def on_train_end(self, net, **kwargs):
        """Hand out seconds and steps."""
        raise Trained(time.process_time() - self.start_, net.step_)


def trained(X, callback: Callback, **parameters) -> tuple:
    """Train an estimator; return what the callback measured."""
    mae = MutualAutoencoder(random_state=0, callbacks=[callback], **parameters)
    try:
        mae.fit(X)
    except Trained as end:
        return end.args
    raise AssertionError("the callback did not end the fit")


def estimator(model: Model, **parameters) -> tuple[float, int]:
    """Return the seconds and the steps of an estimator's training."""
    # as many for each step as in a fit of default length
    n_steps = row_family(model.likelihood).schedule.n_steps
    per_step = ALL_CALIBRATIONS / n_steps
    MutualAutoencoderNet.n_calibrations = per_step * model.epochs * model.n_batches
    return trained(
        model.X,
        Timed(),
        likelihood=model.likelihood,
        n_components=model.n_components,
        hidden_layer_sizes=model.hidden,
        max_epochs=model.epochs,
        batch_size=model.batch_size,
        lr=LR,
        **parameters,
    )


ALL_CALIBRATIONS = MutualAutoencoderNet.n_calibrations


def cases(name: str) -> dict:
    """Return what runs on a model, by case."""
    fits = {
        case: functools.partial(estimator, **parameters)
        for case, parameters in FITS.items()
        if name != "text" or case != "paper"
    }
    if name == "text":
        return fits
    loops = {"loop": loop, "skorch": stock_skorch}
    if installed("pythae"):
        loops["pythae"] = pythae_vae
    return loops | fits


@functools.cache
def installed(package: str) -> bool:
    """Return whether a package is; say so if it is not."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{package} is not installed: left out", flush=True)
    return found


def run_steps(results: Results, names: list[str], rounds: int) -> None:
    """Time all cases of each model, round by round."""
    for name in names:
        model, runs = MODELS[name], cases(name)
        wanted = [
            {"what": "step", "model": name, "case": case, "round": number}
            for number in range(rounds)
            for case in runs
        ]
        missing = list(results.missing(wanted))
        short = replace(model, steps=1)
        for case in {row["case"] for row in missing}:
            runs[case](short)  # first calls load and compile
        for row in missing:
            seconds, steps = runs[row["case"]](model)
            row |= {"n": model.n_rows, "steps": steps, "seconds": f"{seconds:.4f}"}
            results.add(row)


# Tables of many rows


def memory(name: str) -> float:
    """Return VmRSS or VmHWM, the resident memory or its peak, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1e3
    raise OSError(name)


class Measured(Callback):
    """Measures the steps after the first ones, then ends the fit."""

    def on_batch_end(self, net, **kwargs):
        """Start, or hand out seconds, peak during the steps, and peak before them."""
        if net.step_ == UNCOUNTED:
            self.before_, self.held_ = memory("VmHWM"), memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
            self.start_ = time.process_time()
        elif net.step_ == UNCOUNTED + COUNTED:
            seconds = time.process_time() - self.start_
            peak = memory("VmHWM")
            raise Trained(seconds, peak - self.held_, max(peak, self.before_))


def measured(n: int) -> dict:
    """Return the figures of steps on n rows."""
    torch.set_num_threads(1)
    X = table(n, 20, 5)
    held = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    MutualAutoencoderNet.n_calibrations = 1e-9
    epochs = 1 + (UNCOUNTED + COUNTED) // -(-n // BATCH)
    seconds, added, peak = trained(X, Measured(), max_epochs=epochs, lr=LR)
    return {
        "steps": COUNTED,
        "seconds": f"{seconds:.4f}",
        "megabytes": f"{added:.1f}",
        "fit_megabytes": f"{peak - held:.1f}",
    }


def run_rows(results: Results, rounds: int) -> None:
    """Measure each number of rows in a process of its own."""
    wanted = (
        {"what": "rows", "case": "default", "n": n, "round": number}
        for number in range(rounds)
        for n in SIZES
    )
    for row in results.missing(wanted):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results.add(row | pool.apply(measured, (row["n"],)))


# The tables


def summary(rows: list[dict]) -> None:
    """Print ratios of steps and figures of many rows."""
    steps: dict = {}
    for row in rows:
        if row["what"] == "step":
            key = row["model"], row["case"]
            per_step = float(row["seconds"]) / float(row["steps"])
            steps.setdefault(key, {})[row["round"]] = per_step
    if steps:
        print("\n| a step, ms | " + " | ".join(MODELS) + " |")
        print("|---|" + "---|" * len(MODELS))
        for case in dict.fromkeys(case for _, case in steps):
            found = [steps.get((name, case)) for name in MODELS]
            print(f"| {case} | " + " | ".join(map(_milliseconds, found)) + " |")
        print("\n| median ratio (range) | " + " | ".join(MODELS) + " |")
        print("|---|" + "---|" * len(MODELS))
        for title, above, below in COMPARISONS:
            pairs = [(steps.get((n, above)), steps.get((n, below))) for n in MODELS]
            print(f"| {title} | " + " | ".join(_ratio(*pair) for pair in pairs) + " |")
    sizes = [row for row in rows if row["what"] == "rows"]
    if sizes:
        print("\n| rows | a step, ms | memory of the steps, MB | of the fit, MB |")
        print("|---|---|---|---|")
        for n in SIZES:
            some = [row for row in sizes if float(row["n"]) == n]
            if some:
                columns = (
                    statistics.median(float(row[name]) for row in some)
                    for name in ("seconds", "megabytes", "fit_megabytes")
                )
                seconds, added, peak = columns
                ms = 1e3 * seconds / COUNTED
                print(f"| {n:,} | {ms:.2f} | {added:.1f} | {peak:.0f} |")


def _milliseconds(rounds: dict | None) -> str:
    """Return the median over rounds."""
    return f"{1e3 * statistics.median(rounds.values()):.2f}" if rounds else ""


def _ratio(above: dict | None, below: dict | None) -> str:
    """Return median and range of the ratios within rounds."""
    if not above or not below:
        return ""
    ratios = [above[number] / below[number] for number in above if number in below]
    median = statistics.median(ratios)
    return f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main():
    """Run what is missing and print the tables."""
    options = parser(__doc__, "speed.csv")
    kinds = ("step", "rows")
    options.add_argument("--what", nargs="+", default=kinds, choices=kinds)
    options.add_argument("--model", nargs="+", default=list(MODELS), choices=MODELS)
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable()  # pythae's words about each epoch
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    if "step" in arguments.what:
        run_steps(results, arguments.model, arguments.rounds)
    if "rows" in arguments.what:
        run_rows(results, min(3, arguments.rounds))
    summary(results.rows)


if __name__ == "__main__":
    main()
