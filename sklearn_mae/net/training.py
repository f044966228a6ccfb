"""Training: Algorithm 1 of the paper as one step of a skorch net.

    minimise over theta, phi   -E bound(x)  +  lambda I          (UpdateModel)
    maximise over omega         E log r_omega(z|x)               (UpdateMIEstimate)

A *constraint* (``constraints.py``) contributes the second term of the first line.
"""

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor
from torch.utils.data import Dataset

from sklearn_mae.model import draw, private_random
from sklearn_mae.net.constraints import TwoSided, drawn

__all__ = ["FIGURES", "Batches", "MutualAutoencoderNet", "Rows"]

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


def _landing_range(M: float) -> float:
    """From how far off M may be landed on, in nats.

    What training left farther off, after too few steps for example, is not for the
    decoder alone to mend, away from data and encoder.
    """
    return min(max(0.1, 0.2 * M), max(0.5, 0.1 * M))


class StopTraining(Exception):
    """A callback asked to end the training."""


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

    n_calibrations = 15
    # Newton steps onto M after training, the terms behind each gradient, how many steps
    # of the optimiser each may be long, and what is near enough, in nats
    n_landing_steps = 8
    n_landing_terms = 16
    longest_landing = 60
    landed = 1e-3
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
        theta = [*model.likelihood.parameters(), *model.encoder.parameters()]
        self._theta = [p for p in theta if p.requires_grad]  # a user may freeze some
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
        """Forget the batches of the epoch before: they would grow with the epochs."""
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
            where = f"in epoch {len(self.history)}"
            raise self._divergence(where, f"loss is {figures['loss']}")
        figures["loss"] += self.log_volume
        figures["elbo"] -= self.log_volume
        figures["distortion"] += self.log_volume
        for name, value in figures.items():
            self.history.record(name, value)

    def check_finite(
        self, /, where: str = "by its end", below: float = np.inf, **figures: float
    ) -> None:
        """Raise ValueError unless all parameters, and the figures given, are finite.

        Figures must be below a limit, too, or above its negative.
        """
        named = list(self.module_.named_parameters())
        good = torch.stack([p.detach().isfinite().all() for _, p in named]).tolist()
        for (name, _), finite in zip(named, good, strict=True):
            if not finite:
                raise self._divergence(where, f"{name} is not finite")
        for name, value in figures.items():
            if not abs(value) < below:  # nor where it is NaN
                raise self._divergence(where, f"{name} is {value:.3g}")

    def _divergence(self, where: str, what: str) -> ValueError:
        return ValueError(
            f"Training diverged {where} ({what}). Use a smaller lr (lr={self.lr} was "
            "given), scale columns with extreme values, for example with "
            "sklearn.preprocessing.QuantileTransformer, or raise min_scale."
        )

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
                try:
                    loss = self._update(batch)
                except Exception:
                    # torch's Distributions refuse the NaN of a diverged module
                    self.check_finite(where=f"in epoch {len(self.history)}")
                    raise
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
                -term.objective,
                self._omega,
                retain_graph=True,
                materialize_grads=True,  # the paper's rule trains no prefixes
            )
            for parameter, gradient in zip(self._omega, gradients, strict=True):
                parameter.grad = gradient
        self.optimizer_.zero_grad()
        # theta and phi alone: the bounds' gradient is taken at fixed omega
        loss.backward(inputs=self._theta)
        # (a list: the first of several callbacks would use a generator up)
        self.notify(
            "on_grad_computed", named_parameters=[*self.get_all_learnable_params()]
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
            if term.upper is not None:
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

    def land(self, measure: Callable[[], tuple[float, float]]) -> None:
        """Bring the information from near M, where noise and drift left it, onto M.

        Newton steps along the gradient of I in the optimiser's own metric: of all ways
        to change I by so much, about the one that costs the likelihood least.

        Parameters
        ----------
        measure : callable
            Returns I(x, z) of the module and the standard error of that estimate,
            each time from the same draws; NaN where it is too vague to act on.
        """
        if not isinstance(self.constraint, TwoSided) or self.step_ == 0:
            return  # the paper's rule ends where it ends
        penalty = self.constraint.penalty
        if abs(penalty.multiplier) >= penalty.C:
            return  # C forbids it
        # those that training moved: a user's module may hold others
        state = self.optimizer_.state
        parameters = [
            parameter
            for parameter in self.module_.likelihood.parameters()
            if parameter.requires_grad and state.get(parameter)
        ]
        information, se = measure()
        if not parameters or abs(penalty.M - information) > _landing_range(penalty.M):
            return
        for _ in range(self.n_landing_steps):
            missing = penalty.M - information
            if not abs(missing) > max(se, self.landed):  # nor where it is NaN
                return
            direction, slope = self._ascent(parameters)
            if not slope > 0:
                return
            length = missing / slope
            longest = self.longest_landing * self.lr
            length = min(max(length, -longest), longest)
            before = [parameter.detach().clone() for parameter in parameters]
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=length)
            information, se = measure()
            if not abs(penalty.M - information) < abs(missing):
                with torch.no_grad():
                    torch._foreach_copy_(parameters, before)
                return

    def _ascent(self, parameters) -> tuple[list[Tensor], float]:
        """Direction of ascent of I, and how much I rises along it, from other draws."""
        gradients = []
        for _ in range(2):
            total = [torch.zeros_like(parameter) for parameter in parameters]
            for _ in range(self.n_landing_terms):
                information = self.constraint.information(self.module_, self.generator)
                # a user's module may use a parameter in training mode alone
                parts = torch.autograd.grad(
                    information / self.n_landing_terms,
                    parameters,
                    allow_unused=True,
                    materialize_grads=True,
                )
                torch._foreach_add_(total, parts)
            gradients.append(total)
        first, second = gradients
        direction = [
            (gradient / self._scale_of(parameter)).clamp(-1, 1)
            for parameter, gradient in zip(parameters, first, strict=True)
        ]
        slope = sum(
            float((a * b).sum()) for a, b in zip(direction, second, strict=True)
        )
        return direction, slope

    def _scale_of(self, parameter) -> Tensor:
        """By what Adam divides a parameter's gradient."""
        state = self.optimizer_.state[parameter]
        beta = self.optimizer_.param_groups[0]["betas"][1]
        second_moment = state["exp_avg_sq"] / (1 - beta ** float(state["step"]))
        return second_moment.sqrt() + 1e-8

    def release(self) -> None:
        """Let go of what training alone needs; generators cannot be copied."""
        self.module_.eval()
        self.generator = self.iterator_train__generator = None
        self.constraint = self.rate_constraint = None
        for name in ("_theta", "_omega", "_totals", "_means"):
            self.__dict__.pop(name, None)  # a net rebuilt after loading trained nothing
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
            r, z0 = drawn(model, self.posterior_batch, self.generator)
            loss = -model.posterior.objective(r, z0).mean()
            for group in optimizer.param_groups:
                group["lr"] = self.posterior_speed * self.lr * (1 - step / n_steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
