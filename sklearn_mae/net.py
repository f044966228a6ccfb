"""Training: Algorithm 1 of the paper as one step of a skorch net.

    minimise over theta, phi   -E bound(x)  +  lambda I          (UpdateModel)
    maximise over omega         E log r_omega(z|x)               (UpdateMIEstimate)

A *constraint* contributes a term to the first line. ``Paper`` is Algorithm 1 to the
letter: the infomax bound under the sign rule. ``TwoSided`` goes through the upper
bound where I must fall and through the lower one where it must rise. ``Rate`` is the
same for the encoder's joint: down through the rate R, up through -D.
"""

import contextlib
import math
from typing import NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PassthroughScoring
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sklearn_mae.information import (
    correction,
    infomax,
    prior_entropy,
    sandwich,
    training_bias,
    weigh,
)
from sklearn_mae.model import LatentVariableModel, draw, private_random
from sklearn_mae.penalty import DualAscent, SignRule

__all__ = [
    "FIGURES",
    "Batches",
    "Listed",
    "MutualAutoencoderNet",
    "Paper",
    "ProgressBar",
    "Rate",
    "Rows",
    "TwoSided",
]

FIGURES = (
    "loss",
    "elbo",
    "distortion",
    "rate",
    "information_lower",
    "information_upper",
    "multiplier_model",
    "multiplier_rate",
)


class Rows(Dataset):
    """Rows of a tensor, handed out in batches rather than one by one."""

    def __init__(self, x: Tensor):
        self.x = x

    def __len__(self):
        return len(self.x)


class Batches:
    """Shuffled batches of nearly equal size, at most ``batch_size`` rows each.

    A data loader that collates single rows takes longer than the step of a small
    network, and draws from torch's global generator.
    """

    def __init__(self, dataset: Rows, batch_size: int, generator: torch.Generator):
        self.x, self.generator = dataset.x, generator
        self.n_batches = -(-len(dataset) // batch_size)

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        x = self.x
        order = torch.randperm(
            len(x), generator=self.generator, device=self.generator.device
        )
        for rows in order.tensor_split(self.n_batches):
            yield x.index_select(0, rows)


class Term(NamedTuple):
    """What a constraint on the model's information adds to a step."""

    penalty: Tensor
    infomax: Tensor
    estimate: Tensor
    lower: Tensor
    upper: Tensor


class TwoSided:
    """Constraint on the model's information through both bounds.

    Parameters
    ----------
    penalty : DualAscent
        Holds the multiplier.
    strategy : object
        Gradient strategy (``gradients.py``).
    """

    # every so many steps, with so much more weight: the step of a small network is
    # dominated by the number of its operations, not by their size
    period = 3
    n_samples = 64
    n_proposals = 8
    # the last calibrations decide where the fit ends: they are the most precise
    calibration_samples = (100, 1_500)
    # beyond this gap between its bounds, in nats, an estimate is too vague to steer by
    widest_gap = 1.0

    def __init__(self, penalty: DualAscent, strategy):
        self.penalty = penalty
        self.strategy = strategy
        # what the training estimate overstates, because K is finite and r_omega lags
        self.offset = 0.0

    def term(
        self, model: LatentVariableModel, batch: int, generator: torch.Generator
    ) -> Term:
        """Return the step's term, its weight from earlier estimates."""
        z0 = model.draw_codes(self.n_samples, generator)

        def bounds(x, log_lik):
            r = model.r(x)
            weighted = weigh(model, x, z0, log_lik, r, self.n_proposals, generator)
            # as infomax(r, z0), of which the weights have the density already
            infomax = prior_entropy(z0.shape[-1]) + weighted.log_q0
            return *sandwich(weighted), infomax, correction(weighted)

        p = model.likelihood(z0)
        values = self.strategy.expectation(p, bounds, generator)
        lower, upper, infomax, quieter = (value.mean() for value in values)
        weight = self.penalty.weight
        side = upper if weight > 0 else lower
        penalty = self.period * weight * side
        estimate = 0.5 * (lower + upper) + quieter
        return Term(penalty, infomax, estimate, lower, upper)

    def update(self, estimate: float) -> None:
        """Move the multiplier by this step's estimate."""
        self.penalty.update(estimate - self.offset)

    def calibrate(self, model: LatentVariableModel, progress: float, generator) -> None:
        """Correct the estimate against a small certificate.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        progress : float
            How far the calibrations have come, from 0 to 1.
        generator : torch.Generator
            Source of all draws.
        """
        first, last = self.calibration_samples
        n_samples = round(first * (last / first) ** progress)
        bias, gap = training_bias(model, n_samples, self.n_proposals, generator)
        if gap < self.widest_gap:  # nor where it is NaN
            self.offset += 0.5 * (bias - self.offset)


class Listed(TwoSided):
    """The same for a code of one component and outcomes of x that can be listed.

    Codes stratified over one axis are the midpoint rule: their mean of p(x|z) *is* p(x)
    but for a term of second order in the strata's width, and a sum over x is exact. So
    there is one value instead of two bounds and nothing to calibrate. (r_omega, one
    bump for a category that several stretches of z may decode to, would be a poor
    proposal.)
    """

    n_samples = 256

    def term(
        self, model: LatentVariableModel, batch: int, generator: torch.Generator
    ) -> Term:
        """Return the step's term, its weight from earlier estimates."""
        z0 = model.draw_codes(self.n_samples, generator)

        def densities(x, log_prob):
            log_marginal = torch.logsumexp(log_prob, -1, keepdim=True)
            information = log_prob - log_marginal + math.log(self.n_samples)
            return information, infomax(model.r(x), z0)

        p = model.likelihood(z0)
        values = self.strategy.expectation(p, densities, generator)
        information, lowest = (value.mean() for value in values)
        penalty = self.period * self.penalty.weight * information
        return Term(penalty, lowest, information, information, information)

    def calibrate(self, model: LatentVariableModel, progress: float, generator) -> None:
        """There is nothing to correct."""


class Paper:
    """The paper's constraint: infomax bound and sign rule (Algorithm 1).

    Parameters
    ----------
    penalty : SignRule
        Holds the multiplier.
    strategy : object
        Gradient strategy (``gradients.py``).
    """

    period = 1

    def __init__(self, penalty: SignRule, strategy):
        self.penalty = penalty
        self.strategy = strategy

    def term(
        self, model: LatentVariableModel, batch: int, generator: torch.Generator
    ) -> Term:
        """Lines 14 to 17 for the model, 8 and 9 for r_omega."""

        def estimate():
            z0 = model.draw_codes(batch, generator)

            def bound(x, log_lik):
                return (infomax(model.r(x), z0),)

            p = model.likelihood(z0)
            (values,) = self.strategy.expectation(p, bound, generator)
            return values.mean()

        with torch.no_grad():
            m = estimate()  # lines 15 and 16: draws of their own
        self.penalty.update(float(m))
        bound = estimate()  # line 14, and line 8: B fresh draws
        nothing = torch.full_like(m, torch.nan)
        return Term(self.penalty.weight * bound, bound, m, m, nothing)

    def update(self, estimate: float) -> None:
        """The sign was taken before the step."""

    def calibrate(self, model: LatentVariableModel, progress: float, generator) -> None:
        """The paper has no calibration."""


class Rate:
    """Constraint on the encoder's joint: R = M, down through R and up through -D.

    Rewarding R itself would diverge: that is a negative beta.

    Parameters
    ----------
    penalty : DualAscent
        Holds the multiplier.
    """

    def __init__(self, penalty: DualAscent):
        self.penalty = penalty

    def term(self, distortion: Tensor, rate: Tensor) -> Tensor:
        """Return the step's term from the batch's mean distortion and rate."""
        weight = self.penalty.weight
        return weight * rate if weight > 0 else -weight * distortion


class StopTraining(Exception):
    """A callback asked to end the training."""


class ProgressBar(Callback):
    """One live bar for the whole fit."""

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, desc="MutualAutoencoder", unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch's figures."""
        last = net.history[-1]
        shown = {k: f"{last[k]:.3g}" for k in FIGURES if np.isfinite(last[k])}
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        if hasattr(self, "bar_"):
            self.bar_.close()
            del self.bar_


class MutualAutoencoderNet(NeuralNet):
    """skorch net whose step is one iteration of Algorithm 1.

    Parameters
    ----------
    module : LatentVariableModel
        The model, built.
    rule : object
        Rule of the encoder (``encoders.py``).
    generator : torch.Generator
        Source of all draws.
    constraint : TwoSided, Paper or None
        On the model's information.
    rate_constraint : Rate or None
        On the encoder's rate.
    log_volume : float
        Added to distortions to have them in the units of the data.
    foreign : bool
        Whether a user's module takes part, which may draw from global generators.
    **kwargs
        Of ``skorch.NeuralNet``.
    """

    n_calibrations = 20
    posterior_speed = 2.0
    posterior_batch = 256

    def __init__(
        self,
        module,
        *,
        rule,
        generator,
        constraint=None,
        rate_constraint=None,
        log_volume=0.0,
        foreign=False,
        **kwargs,
    ):
        self.rule = rule
        self.generator = generator
        self.constraint = constraint
        self.rate_constraint = rate_constraint
        self.log_volume = log_volume
        self.foreign = foreign
        super().__init__(
            module,
            criterion=None,
            train_split=None,
            iterator_train=Batches,
            iterator_train__generator=generator,
            **kwargs,
        )

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
        ]

    def initialize_criterion(self):
        """There is none: the loss is a property of the model."""
        return self

    def initialize_optimizer(self, *args, **kwargs):
        """One optimiser for theta and phi, one for omega."""
        model = self.module_
        self._theta = [*model.likelihood.parameters(), *model.encoder.parameters()]
        self._omega = list(model.posterior.parameters())
        self.optimizer_ = self._adam(self._theta)
        self.optimizer_posterior_ = self._adam(self._omega)
        return self

    def _adam(self, parameters):
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
        return torch.optim.Adam(parameters, lr=self.lr, fused=fused)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train. Only a callback's KeyboardInterrupt ends it normally."""
        self.n_steps_ = self.max_epochs * len(self.get_iterator(X, training=True))
        self.step_ = 0
        self._totals, self._means = {}, {}
        try:
            self.notify("on_train_begin", X=X, y=y)
            self.fit_loop(X, y)
        except StopTraining:
            pass
        except BaseException:
            for _, callback in self.callbacks_:
                if isinstance(callback, ProgressBar):
                    callback.on_train_end(self)
            raise
        with contextlib.suppress(StopTraining):
            self.notify("on_train_end", X=X, y=y)
        return self

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks; one that raises KeyboardInterrupt asks for the end."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            raise StopTraining from stop
        except KeyError as error:
            if "history" not in str(error):
                raise
            raise ValueError(
                f"A callback asks for a figure that is not there: {error} There is no "
                f"validation split; monitor 'train_loss' or one of {list(FIGURES)}."
            ) from error

    def on_epoch_begin(self, net, **kwargs):
        """Forget the batches of the epoch before: they would grow the pickle."""
        super().on_epoch_begin(net, **kwargs)
        self._set_training(True)
        self._totals = {}
        if len(self.history) > 1:
            self.history[-2]["batches"].clear()

    def on_epoch_end(self, net, **kwargs):
        """Record the epoch's means in the units of the data."""
        # an epoch shorter than the constraint's period keeps the last estimate
        for name, (total, count) in self._totals.items():
            self._means[name] = total / count
        figures = {name: self._means.get(name, np.nan) for name in FIGURES}
        if not np.isfinite(figures["loss"]):
            raise ValueError(
                f"Training diverged in epoch {len(self.history)} (loss is "
                f"{figures['loss']}). Use a smaller lr (lr={self.lr} was given), scale "
                "columns with extreme values, for example with "
                "sklearn.preprocessing.QuantileTransformer, or raise min_scale."
            )
        figures["loss"] += self.log_volume
        figures["elbo"] -= self.log_volume
        figures["distortion"] += self.log_volume
        for name, value in figures.items():
            self.history.record(name, value)

    def _set_learning_rates(self):
        # constant for the first half, then linearly to zero
        remaining = 1 - self.step_ / self.n_steps_
        lr = self.lr * min(1.0, 2 * remaining + 1e-3)
        for group in self.optimizer_.param_groups:
            group["lr"] = lr
        for group in self.optimizer_posterior_.param_groups:
            group["lr"] = self.posterior_speed * lr

    def train_step(self, batch, **fit_params):
        """One iteration of Algorithm 1, lines 2 to 5."""
        self._set_learning_rates()
        if self.foreign:
            seed = torch.randint(
                2**62, (), generator=self.generator, device=self.generator.device
            )
            with private_random(int(seed)):
                loss = self._update(batch)
        else:
            loss = self._update(batch)
        self.step_ += 1
        return {"loss": loss, "y_pred": None}

    def _update(self, x):
        model, generator = self.module_, self.generator
        q = model.q(x)
        z = draw(q, (self.rule.n_draws,), generator)
        bound = self.rule.bound(model, x, q, z)
        elbo, distortion, rate = (values.mean() for values in bound)
        loss = -elbo
        if self.rate_constraint is not None:
            loss = loss + self.rate_constraint.term(distortion, rate)
        term = None
        # so that no callback takes a gradient for one of this step
        self.optimizer_posterior_.zero_grad()
        if self.constraint is not None and self.step_ % self.constraint.period == 0:
            term = self.constraint.term(model, len(x), generator)
            loss = loss + term.penalty
            # one pass through r_omega serves both updates
            gradients = torch.autograd.grad(
                -term.infomax, self._omega, retain_graph=True
            )
            for parameter, gradient in zip(self._omega, gradients, strict=True):
                parameter.grad = gradient
        self.optimizer_.zero_grad()
        # theta and phi alone: the bounds' gradient is taken at fixed omega
        loss.backward(inputs=self._theta)
        self.notify(
            "on_grad_computed", named_parameters=self.get_all_learnable_params()
        )
        self.optimizer_.step()
        if term is not None:
            self.optimizer_posterior_.step()
        self._record(loss=loss, elbo=elbo, distortion=distortion, rate=rate, term=term)
        return loss.detach()

    def _record(self, term, **figures):
        """Add to the epoch's totals and hand the estimates to the constraints."""
        if term is not None:
            figures["information_lower"] = term.lower
            figures["information_upper"] = term.upper
            figures["estimate"] = term.estimate
        # the step's one synchronisation
        values = torch.stack([figure.detach() for figure in figures.values()]).tolist()
        figures = dict(zip(figures, values, strict=True))
        estimate = figures.pop("estimate", None)
        for name, value in figures.items():
            self._add(name, value)
        if self.rate_constraint is not None:
            self._add("multiplier_rate", self.rate_constraint.penalty.multiplier)
            self.rate_constraint.penalty.update(figures["rate"])
        if self.constraint is None:
            return
        self._add("multiplier_model", self.constraint.penalty.multiplier)
        if term is not None:
            self.constraint.update(estimate)
        every = max(1, self.n_steps_ // self.n_calibrations)
        progress = 1.5 * (self.step_ / self.n_steps_) - 0.5
        if progress > 0 and self.step_ % every == 0:
            self.constraint.calibrate(self.module_, progress, self.generator)

    def _add(self, name, value):
        total, count = self._totals.get(name, (0.0, 0))
        self._totals[name] = total + value, count + 1

    def release(self) -> None:
        """Let go of what training alone needs; generators cannot be pickled."""
        self.module_.eval()
        self.generator = self.iterator_train__generator = None
        self.constraint = self.rate_constraint = None
        del self._theta, self._omega, self._totals, self._means
        self.optimizer_.zero_grad()
        self.optimizer_posterior_.zero_grad()
        for epoch in self.history[-1:]:
            epoch["batches"].clear()

    def refine_posterior(self, n_steps: int) -> None:
        """Train r_omega alone on draws of the model, its rate decaying to zero."""
        # evaluation mode: a user's dropout would draw from torch's global generator
        model = self.module_.eval()
        optimizer = self._adam(self._omega)
        for step in range(n_steps):
            with torch.no_grad():
                z0 = model.draw_codes(self.posterior_batch, self.generator)
                x = draw(model.likelihood(z0), (), self.generator)
            loss = -infomax(model.r(x), z0).mean()
            for group in optimizer.param_groups:
                group["lr"] = self.posterior_speed * self.lr * (1 - step / n_steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
