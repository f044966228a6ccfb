"""Training: Algorithm 1 of the paper as one step of a skorch net.

    minimise over theta, phi   -E bound(x)  +  lambda I          (UpdateModel)
    maximise over omega         E log r_omega(z|x)               (UpdateMIEstimate)

*Constraints* (``constraints.py``) contribute the second term of the first line.
"""

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer
from torch import Tensor

from sklearn_mae.model import draw, private_random
from sklearn_mae.training.adam import Adam
from sklearn_mae.training.batches import Batches
from sklearn_mae.training.constraints import Constraint, Step, Term
from sklearn_mae.training.history import History, TrainLoss

__all__ = ["FIGURES", "MutualAutoencoderNet"]

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


# attributes of a training net alone
RELEASED = (
    "_theta",
    "_own",
    "_omega",
    "_named",
    "_parts",
    "_totals",
    "_means",
    "_usual",
)
# kept of the usual norm of gradients from one clipped term to the next
USUAL = 0.9


def _norm(gradients) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


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
    constraints : sequence of Constraint
        What must equal M, in the order in which their terms join the loss.
    log_volume : float
        Added to distortions to have them in the units of the data.
    user_supplied : bool
        Whether a user's module takes part, which may draw from global generators.
    holds_decoder : bool
        See ``alone.Remainder``.
    **kwargs
        Of ``skorch.NeuralNet``.
    """

    n_calibrations = 15
    posterior_speed = 2.0
    # Adam moves every parameter by about its rate in a step. A decoder's weights move
    # its outputs by many times that: parameters that are outputs must keep up. Not from
    # the start: noise scales that follow the residuals at once make the decoder settle
    # on codes for few columns, and M then buys less.
    shared_speed = 10.0

    def __init__(
        self,
        module,
        *,
        rule,
        generator,
        constraints: Sequence[Constraint] = (),
        log_volume=0.0,
        user_supplied=False,
        holds_decoder=False,
        **kwargs,
    ):
        self.rule = rule
        self.generator = generator
        self.constraints = constraints
        self.log_volume = log_volume
        self.user_supplied = user_supplied
        self.holds_decoder = holds_decoder
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
            ("train_loss", TrainLoss()),
        ]

    def initialize_history(self):
        """Begin an empty one."""
        self.history_ = History()
        return self

    def initialize_criterion(self):
        """There is none: the loss is a property of the model."""
        return self

    def initialize_optimizer(self, *args, **kwargs):
        """One optimiser for theta and phi, one for omega."""
        model = self.module_
        likelihood = model.likelihood
        shared = {id(p) for p in likelihood.shared_parameters()}
        learns = list(likelihood.parameters())
        if self.holds_decoder:
            of_code = {id(p) for p in likelihood.parameters_when_held()}
            learns = [p for p in learns if id(p) in of_code | shared]
        theta = [*learns, *model.encoder.parameters()]
        self._theta = [p for p in theta if p.requires_grad]  # a user may freeze some
        numbers = [p for p in self._theta if id(p) in shared]
        networks = [p for p in self._theta if id(p) not in shared]
        self._omega = list(model.posterior.parameters())
        # (a list: the first of several callbacks would use a generator up)
        self._named = list(model.named_parameters())
        self._parts = list(model.modules())
        groups = [
            {"params": networks, "speed": 1.0},
            {"params": numbers, "speed": self.shared_speed},
        ]
        self.optimizer_ = self.adam([group for group in groups if group["params"]])
        self.optimizer_posterior_ = self.adam(self._omega)
        return self

    def adam(self, parameters) -> Adam:
        """Return an optimiser of parameters, or groups of them, at the net's rate."""
        fused = torch.device(self.device).type in ("cpu", "cuda")
        return Adam(parameters, lr=self.lr, fused=fused)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train. Only a callback's KeyboardInterrupt ends it normally."""
        self.n_steps_ = self.max_epochs * len(self.get_iterator(X, training=True))
        self.step_ = 0
        self._totals, self._means = {}, {}
        self._usual: Tensor | None = None
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
        # a callback may have left a part of it in evaluation mode
        if not all(module.training for module in self._parts):
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
        self.history[-1].update(figures)

    def check_finite(
        self,
        figures: dict[str, float] | None = None,
        *,
        below: float = np.inf,
        where: str = "by its end",
    ) -> None:
        """Raise ValueError unless all parameters, and the figures given, are finite.

        Figures must be below a limit, too, or above its negative.
        """
        named = list(self.module_.named_parameters())
        good = torch.stack([p.detach().isfinite().all() for _, p in named]).tolist()
        for (name, _), finite in zip(named, good, strict=True):
            if not finite:
                raise self._divergence(where, f"{name} is not finite")
        for name, value in (figures or {}).items():
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
        lr = self.lr * min(1.0, 2 * max(0.0, remaining) + 1e-3)
        for group in self.optimizer_.param_groups:
            group["lr"] = lr if remaining > 0.5 else group["speed"] * lr
        for group in self.optimizer_posterior_.param_groups:
            group["lr"] = self.posterior_speed * lr

    def train_step(self, batch, **fit_params):
        """One iteration of Algorithm 1, lines 2 to 5."""
        self._set_learning_rates()
        if self.user_supplied:
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
        step = Step(model, self.step_, len(x), distortion, rate, generator, x, z)
        # so that no callback takes a gradient for one of this step
        self.optimizer_posterior_.zero_grad()
        terms = {c.name: c.term(step) for c in self.constraints}
        terms = {name: term for name, term in terms.items() if term is not None}
        objectives = []
        apart = [term for term in terms.values() if term.clip is not None]
        for term in terms.values():
            if term.clip is None:
                loss = loss + term.penalty
            if term.objective is not None:
                objectives.append(term.objective)
        if objectives:
            # one pass through r_omega serves both updates
            gradients = torch.autograd.grad(
                -sum(objectives[1:], objectives[0]),
                self._omega,
                retain_graph=True,
                materialize_grads=True,  # the paper's rule trains no prefixes
            )
            for parameter, gradient in zip(self._omega, gradients, strict=True):
                parameter.grad = gradient
        self.optimizer_.zero_grad()
        # theta and phi alone: the bounds' gradient is taken at fixed omega
        loss.backward(inputs=self._theta)
        for term in apart:
            self._add_clipped(term.penalty, term.clip)
            loss = loss + term.penalty.detach()
        self.notify("on_grad_computed", named_parameters=self._named)
        self.optimizer_.step()
        if objectives:
            self.optimizer_posterior_.step()
        return self._record(
            terms, loss=loss, elbo=elbo, distortion=distortion, rate=rate
        )

    def _add_clipped(self, penalty: Tensor, clip: float) -> None:
        """Add a penalty's gradient, cut off at a part of the others' usual norm."""
        parameters = [p for p in self._theta if p.grad is not None]
        gradients = torch.autograd.grad(penalty, parameters, materialize_grads=True)
        norm = _norm([p.grad for p in parameters])
        self._usual = norm if self._usual is None else norm.lerp(self._usual, USUAL)
        factor = (clip * self._usual / _norm(gradients)).clamp_max(1.0)
        torch._foreach_add_(
            [p.grad for p in parameters], [factor * g for g in gradients]
        )

    def _record(self, terms: dict[str, Term], **figures) -> Tensor:
        """Add to the epoch's totals and hand the estimates to the constraints.

        Returns the first figure, the loss, on the CPU.
        """
        for term in terms.values():
            figures.update(term.figures)
        tensors = [*figures.values(), *(term.estimate for term in terms.values())]
        # the step's one synchronisation
        on_cpu = torch.stack(tensors).detach().cpu()
        values = on_cpu.tolist()
        for name, value in zip(figures, values[: len(figures)], strict=True):
            self._add(name, value)
        estimates = dict(zip(terms, values[len(figures) :], strict=True))
        every = max(1, self.n_steps_ // self.n_calibrations)
        progress = 1.5 * (self.step_ / self.n_steps_) - 0.5
        for constraint in self.constraints:
            self._add(f"multiplier_{constraint.name}", constraint.penalty.multiplier)
            if constraint.name in estimates:
                constraint.update(estimates[constraint.name])
            if progress > 0 and self.step_ % every == 0:
                constraint.calibrate(self.module_, progress, self.generator)
        return on_cpu[0]

    def _add(self, name, value):
        total, count = self._totals.get(name, (0.0, 0))
        self._totals[name] = total + value, count + 1

    def release(self) -> None:
        """Let go of what training alone needs; generators cannot be copied."""
        self.module_.eval()
        self.generator = self.iterator_train__generator = None
        self.constraints = ()
        for name in RELEASED:
            self.__dict__.pop(name, None)  # a net rebuilt after loading trained nothing
        self.optimizer_.zero_grad()
        self.optimizer_posterior_.zero_grad()
        for epoch in self.history[-1:]:
            epoch["batches"].clear()
