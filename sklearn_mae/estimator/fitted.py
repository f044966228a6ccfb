"""The fitted record: all that ``fit`` learned, in one object that nothing changes.

``fit`` publishes it by one assignment. Public fitted names are read from it, methods
compute from it, ``warm_start`` goes on from it, and ``saving.py`` writes it down.
"""

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.columns import Columns, row_blocks
from sklearn_mae.encoders import Bound
from sklearn_mae.estimator.arguments import as_tensor, check_count, seed_from, to_numpy
from sklearn_mae.estimator.likelihoods import described
from sklearn_mae.estimator.memory import enough_memory
from sklearn_mae.estimator.targets import Target
from sklearn_mae.evaluation import Evaluation, MixedPrecision
from sklearn_mae.families import RowFamily, Structure
from sklearn_mae.information import (
    Bracket,
    LabelInformation,
    encoded,
    information_about_labels,
    information_of_model,
    joined,
)
from sklearn_mae.model import BlockPrior, LatentVariableModel, Rows, plain_torch
from sklearn_mae.noise import row_noise
from sklearn_mae.training import MutualAutoencoderNet, class_prior

__all__ = ["Fitted", "at_once"]

# joint draws that a certificate's budget is meant for; more of them have a larger one
USUAL_SAMPLES = 2_000

Method = TypeVar("Method", bound=Callable)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What ``fit`` learned.

    Names that end with an underscore are the estimator's public ones.

    Parameters
    ----------
    structure : Structure
        Of the networks.
    build_seed : int
        Seed that the networks were built from.
    seed : int
        Seed of the last ``fit``, and of the fixed draws that figures are made with.
    family : RowFamily
        What was learned of the rows.
    net_ : MutualAutoencoderNet
        Trained; ``net_.module_`` is the model.
    constraints : dict of str to dict of str to float
        State of each constraint, which ``warm_start`` goes on from.
    history_ : dict of str to ndarray of shape (n_iter_,)
        Figures of the epochs.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str of shape (n_features_in_,) or None
        Their names.
    columns : Columns or None
        The way from a user's table and back. None: it is an array of numbers.
    mutual_info_, rate_, rate_se : float
        In nats; the last is the standard error of the mean over training rows.
    mutual_info_interval_ : tuple of (float, float)
        In nats.
    target : Target or None
        What was learned of y.
    target_mutual_info_ : float, Bunch of str to float, or None
        In nats, of each block where there are several; NaN where it is not known, None
        without a target.
    target_mutual_info_interval_ : tuple of (float, float), Bunch or None
        In nats.
    """

    structure: Structure
    build_seed: int
    seed: int
    family: RowFamily
    net_: MutualAutoencoderNet
    constraints: dict[str, dict[str, float]]
    history_: dict[str, np.ndarray]
    n_features_in_: int
    feature_names_in_: np.ndarray | None
    columns: Columns | None = None
    mutual_info_: float = math.nan
    mutual_info_interval_: tuple[float, float] = (math.nan, math.nan)
    rate_: float = math.nan
    rate_se: float = math.nan
    target: Target | None = None
    target_mutual_info_: float | dict[str, float] | None = None
    target_mutual_info_interval_: tuple[float, float] | dict | None = None

    @property
    def model(self) -> LatentVariableModel:
        """The networks, in the precision of the training."""
        return self.net_.module_

    @property
    def n_iter_(self) -> int:
        """Number of epochs."""
        return len(self.history_["loss"])

    @property
    def _n_features_out(self) -> int:
        return self.structure.n_components

    # (Two threads may make a copy each: they are equal, and nothing changes them.)
    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """What computes figures, in double precision."""
        # float32 rounding depends on how many rows are multiplied at once
        model = copy.deepcopy(self.model).double().eval()
        return Evaluation(model, self.net_.rule, self.seed)

    @functools.cached_property
    def codes(self) -> MixedPrecision:
        """What computes codes and bounds, in single precision where it may."""
        exact = self.evaluation
        return MixedPrecision(exact.model, exact.rule, exact.seed)

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return a copy on the model's device."""
        return as_tensor(array, torch.float64, self.model.reference.device)

    def seen(self, X: np.ndarray) -> Rows:
        """Return rows as the model sees them."""
        return self.family.rows(X).map(self.tensor)

    @property
    def told(self) -> bool:
        """Whether the decoder sees y."""
        return self.target is not None and self.target.told

    @property
    def knows_its_holes_alone(self) -> bool:
        """Whether figures of rows with holes rest on holes of the rows of fit."""
        return self.told or self.model.likelihood.sequential

    @property
    def classes_(self) -> np.ndarray | None:
        """Labels that fit has seen; None without a target."""
        return None if self.target is None else self.target.classes_

    def with_labels(self, rows: Rows, y) -> Rows:
        """Return rows of arrays with what the decoder is given of their labels."""
        target = self.target
        if target is None or not target.told:
            return rows
        if y is None:
            raise ValueError(
                "The decoder of a MutualAutoencoder with target='condition' sees y, "
                "and y is None. Pass y=, a label for each row."
            )
        return replace(rows, given=target.given(y, len(rows)))

    def check_told(self, y) -> None:
        """Refuse labels that no decoder sees."""
        if y is not None and not self.told:
            target = None if self.target is None else self.target.kind
            raise ValueError(
                "y= says what the decoder is told, and this MutualAutoencoder was "
                f"fitted with target={target!r}: its decoder sees no labels. Leave y "
                "out, or fit with target='condition'."
            )

    def labelled(self, X: np.ndarray, y) -> Rows:
        """Return rows as the model sees them, with their labels."""
        self.check_told(y)
        return self.with_labels(self.family.rows(X), y).map(self.tensor)

    @property
    def likelihood_(self):
        """Likelihood of all columns, or pairs of one and its columns."""
        return described(self.structure.likelihood, self.feature_names_in_)

    def table(self, rows: Rows) -> np.ndarray:
        """Return rows of the model as rows of numbers."""
        return self.family.table(rows.map(to_numpy))

    def as_given(self, X: np.ndarray, round: bool = True, index=None):
        """Return rows of numbers as ``fit`` got its rows."""
        if self.columns is None:
            return X
        if round:
            X = self.columns.within(X)
        return self.columns.decode(X, round=round, index=index)

    def filled(self, X: np.ndarray, there: np.ndarray, others, round=True, index=None):
        """Return rows of numbers, (n, D), as ``fit`` got its rows.

        Entries that are not there come from ``others``, (..., n, D). Those alone are
        rounded and kept in the range of ``fit``: what a user has given stays as it is.
        """
        if self.columns is None:
            return np.where(there, X, others).astype(others.dtype)
        if round:
            others = self.columns.rounded(self.columns.within(others))
        whole = np.where(there, X, others)
        # a column's type may hold the decimals of fit alone, and no others
        kept = self.columns.rounded(whole)
        changed = (np.isfinite(whole) & (kept != whole)).reshape(-1, whole.shape[-1])
        return self.columns.decode(whole, round=round & ~changed.any(0), index=index)

    def noise(self, keys: np.ndarray, n_columns: int) -> torch.Tensor:
        """Return the noise of rows with such keys, shape (n, n_columns)."""
        return self.tensor(row_noise(keys, self.seed, n_columns))

    def noise_of(self, X: np.ndarray, evaluation: Evaluation) -> torch.Tensor:
        """Return the noise behind figures of checked rows."""
        return self.noise(self.family.keys(X), evaluation.n_noise)

    def normals(self, n: int, evaluation: Evaluation, generator) -> torch.Tensor:
        """Draw the noise behind n codes."""
        return torch.randn(
            (n, evaluation.n_noise),
            generator=generator,
            dtype=torch.float64,
            device=generator.device,
        )

    def drawn_codes(self, x: Rows, n_samples: int, random_state) -> torch.Tensor:
        """Draw codes for rows, shape (n_samples, n, d)."""
        n_samples = check_count("n_samples", n_samples, 1)
        evaluation = self.evaluation
        generator = self.generator(random_state)
        draws = []
        for _ in range(n_samples):
            noise = self.normals(len(x), evaluation, generator)
            draws.append(evaluation.encoded_draws(x, noise))
        return torch.stack(draws)

    def generator(self, random_state, fitted: bool = False) -> torch.Generator:
        """Return a generator on the model's device; None may mean the fitted seed."""
        if random_state is None and fitted:
            seed = self.seed
        else:
            seed = seed_from(random_state)
        return self.model.generator(seed)

    def bound(self, seen: Rows, keys: np.ndarray) -> Bound:
        """Return the figures of rows, as ``family`` transforms and keys them."""
        codes = self.codes
        noise = self.noise(keys, codes.exact.n_noise)
        return codes.bound(seen.map(self.tensor), noise)

    def about_labels(self, X, index: np.ndarray) -> dict[str, LabelInformation]:
        """Bracket I(z; y) of codes drawn for rows of classes, see ``labels.py``.

        Of each block of the code.
        """
        # (a draw of each row's own, also of equal ones: each is an observation)
        evaluation, generator = self.evaluation, self.model.generator(self.seed)
        model = evaluation.model
        assert self.target is not None
        blocks = self.target.blocks
        codes: list[torch.Tensor] = []
        encoders: dict[str, list] = {name: [] for name in blocks}
        for some in row_blocks(X):
            x = self.seen(some)
            noise = self.normals(len(x), evaluation, generator)
            codes.append(evaluation.encoded_draws(x, noise))
            every = torch.arange(len(x), device=generator.device)
            for name, block in blocks.items():
                encoders[name].append(encoded(model, x.take, every, block))
        z, prior = torch.cat(codes), model.prior
        labels = torch.as_tensor(index, device=generator.device)
        priors = prior.blocks if isinstance(prior, BlockPrior) else [prior]
        found = {}
        for (name, block), p in zip(blocks.items(), priors, strict=True):
            q, part = joined(encoders[name]), z[:, block]
            with torch.no_grad():
                log_prior, rates = p.log_prob(part), p.kl(q, part[None])
            found[name] = information_about_labels(q, part, labels, log_prior, rates)
        return found

    def class_probabilities(self, x: Rows) -> torch.Tensor:
        """Return E p(y|a) over the first block a of the codes of rows, (n, k)."""
        evaluation = self.evaluation
        prior = class_prior(evaluation.model)

        def proba(z: torch.Tensor) -> torch.Tensor:
            return prior.log_class(z[..., : prior.n_components]).exp()

        return evaluation.expected(proba, x)

    def mutual_info(
        self,
        n_samples: int,
        tol: float,
        generator: torch.Generator,
        budget: int | None = None,
    ) -> Bracket:
        """Bracket I(x, z) of the model, see ``information_of_model``."""
        model = self.evaluation.model
        if budget is None:
            share = max(1.0, n_samples / USUAL_SAMPLES)
            budget = round(share * model.likelihood.cost.budget)
        return information_of_model(model, n_samples, tol, generator, budget)


def at_once(method: Method) -> Method:
    """Let a method read parameters and record once, whatever others set meanwhile.

    It runs on a shallow copy of the estimator, which nobody else sees, and on torch
    as it is set by default.
    """

    @functools.wraps(method)
    def run(self, *args, **kwargs):
        check_is_fitted(self)
        with plain_torch(), enough_memory(self):
            return method(copy.copy(self), *args, **kwargs)

    return run  # type: ignore[return-value]
