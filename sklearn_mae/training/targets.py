"""The constraint on what codes tell about a label, I(z; y).

A batch's own bound cannot steer: with two rows of a class it is nats above the truth.
So draws are compared with a *bank*, rows of each class encoded every few steps. Down it
goes through log q(z|y) - log q(z) of the bank, whose centres are held: a mixture's
score has mean zero, so that the path through the draws is the whole gradient. Up it
goes through a classifier, H(y) + E log c(y|z). The estimate's bias, for a bank is
finite, is measured against many more rows while training goes on.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.information import encoded, midpoint_about_labels, paired_log_prob
from sklearn_mae.model import LatentVariableModel, draw, mlp, private_random
from sklearn_mae.training.adam import Adam
from sklearn_mae.training.constraints import Calibrated, Step, Term
from sklearn_mae.training.penalty import Constant, DualAscent

__all__ = ["Bank", "TargetInformation"]

# rows of each class in the bank; rows of all classes that stand for q(z), about, and of
# each class at least
BANK, ALL_CLASSES, OF_EACH = 1_000, 4_000, 20
# terms between two banks
REFRESHED = 5
# draws that the bias is measured with, and rows that they are compared with
CALIBRATED, COMPARED = 1_000, 10_000
# of log q(z|y) - log q(z) of a single code, in nats
LOWEST = -3.0
HEAD_SIZES, HEAD_LR = (64,), 3e-3


class Bank:
    """Encoded rows of each class, which draws of codes are compared with.

    Parameters
    ----------
    x : Rows or object
        Rows to train on; ``take`` picks some by their numbers.
    shares : Tensor of shape (k,)
        Frequencies of the classes.
    block : slice
        Components of the code that are compared.
    """

    def __init__(self, x, shares: Tensor, block: slice = slice(None)):
        self.x, self.shares, self.block = x, shares, block
        self._all: list[Distribution | None] = []
        self._few: list[Distribution | None] = []

    @torch.no_grad()
    def refill(
        self,
        model: LatentVariableModel,
        rows: list[Tensor],
        generator: torch.Generator,
    ) -> None:
        """Encode some of the rows of each class, whose numbers are given."""
        few = max(OF_EACH, ALL_CLASSES // len(rows))
        self._all, self._few = [], []
        for of_class in rows:
            if not len(of_class):  # of a fit that this one goes on from
                self._all.append(None)
                self._few.append(None)
                continue
            chosen = of_class
            if len(of_class) > BANK:
                some = torch.randint(
                    len(of_class), (BANK,), generator=generator, device=of_class.device
                )
                chosen = of_class[some]
            q = self._encoded(model, chosen)
            self._all.append(q)
            if len(chosen) > few:
                some = torch.randperm(
                    len(chosen), generator=generator, device=of_class.device
                )[:few]
                q = self._encoded(model, chosen[some])
            self._few.append(q)

    def _encoded(self, model: LatentVariableModel, index: Tensor) -> Distribution:
        return encoded(model, self.x.take, index, self.block)

    def compared(self, z: Tensor, labels: Tensor) -> Tensor:
        """Log q(z|y) - log q(z) of codes z (n, d) of classes, shape (n,).

        It is cut off below, where it has no bound: there a code far from all rows of
        its class would gain the more the farther it goes, though I(z; y) >= 0.
        """
        log_q = z.new_full((len(z), len(self._few)), -math.inf)
        columns = [
            _log_mean(q, z) if q is not None else log_q[:, i]
            for i, q in enumerate(self._few)
        ]
        log_q = torch.stack(columns, 1)
        of_all = torch.logsumexp(log_q + self.shares.log(), 1)
        own = log_q.gather(1, labels.unsqueeze(1)).squeeze(1)
        if self._few == self._all:
            return (own - of_all).clamp_min(LOWEST)
        parts, places = [], []
        for label in labels.unique().tolist():
            place = (labels == label).nonzero().squeeze(-1)
            q = self._all[label]
            assert q is not None
            parts.append(_log_mean(q, z[place]))
            places.append(place)
        own = torch.cat(parts)[torch.cat(places).argsort()]
        return (own - of_all).clamp_min(LOWEST)

    @torch.no_grad()
    def bias(
        self,
        model: LatentVariableModel,
        rows: list[Tensor],
        labels: Tensor,
        generator: torch.Generator,
    ) -> float:
        """By how much ``compared`` overstates I(z; y): against many more rows.

        Those with a label of ``labels`` (n,) that is not below 0.
        """
        labelled = (labels >= 0).nonzero().squeeze(-1)
        n = len(labelled)
        order = torch.randperm(n, generator=generator, device=labels.device)
        centres, few = labelled[order[:COMPARED]], min(CALIBRATED, n)
        q = self._encoded(model, centres)
        of_centres = labels[centres]
        z = draw(q, (), generator, reparametrised=False)[:few]
        better = midpoint_about_labels(q, z, of_centres)
        self.refill(model, rows, generator)
        return float(self.compared(z, of_centres[:few]).mean() - better)


class TargetInformation(Calibrated):
    """Constraint on the information that codes of rows have about their labels.

    Parameters
    ----------
    penalty : DualAscent or Constant
        Holds the multiplier; for a target of 0, which is a boundary, the constant C
        itself.
    x : Rows or object
        Rows to train on; ``take`` picks some by their numbers.
    labels : Tensor of shape (n,), int64
        Their classes.
    shares : Tensor of shape (k,)
        Frequencies of the classes.
    n_components : int
        Dimension of the code.
    seed : int
        Of the classifier's initial weights.
    """

    name = "target"
    holds_M = False
    # steps between two terms
    period = 2
    penalty: DualAscent | Constant

    def __init__(
        self,
        penalty: DualAscent | Constant,
        x,
        labels: Tensor,
        shares: Tensor,
        n_components: int,
        seed: int,
    ):
        super().__init__(penalty)
        self.x, self.labels = x, labels
        self.rows = [
            (labels == label).nonzero().squeeze(-1) for label in range(len(shares))
        ]
        self.bank = Bank(x, shares)
        self._terms = 0
        self.head = None
        if penalty.M > 0:
            with private_random(seed):
                head = mlp(n_components, HEAD_SIZES, len(shares), "silu")
            self.head = head.to(shares)
            self._optimizer = Adam(self.head.parameters(), lr=HEAD_LR)

    def term(self, step: Step) -> Term | None:
        """Return the step's term, its weight from earlier estimates."""
        if step.number % self.period:
            return None
        model, z, labels = step.model, step.z[0], step.x.given.argmax(-1)
        if self._terms % REFRESHED == 0:
            self.bank.refill(model, self.rows, step.generator)
        self._terms += 1
        log_c = None if self.head is None else self._classify(z, labels)
        information = self.bank.compared(z, labels).mean()
        weight = self.penalty.weight
        side = information if weight > 0 or log_c is None else log_c.mean()
        return Term(self.period * weight * side, information)

    def _classify(self, z: Tensor, labels: Tensor) -> Tensor:
        """Log c(y|z) of the classifier, after a step of its own."""
        assert self.head is not None
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(self.head(z.detach()), labels)
            parameters = list(self.head.parameters())
            gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        return -torch.nn.functional.cross_entropy(
            self.head(z), labels, reduction="none"
        )

    @torch.no_grad()
    def calibrate(
        self, model: LatentVariableModel, progress: float, generator: torch.Generator
    ) -> None:
        """Correct the estimate against a comparison with many more rows."""
        if self.head is None:
            return
        bias = self.bank.bias(model, self.rows, self.labels, generator)
        if math.isfinite(bias):
            self.offset += (1.0 if self.offset == 0 else 0.5) * (bias - self.offset)

    @property
    def at_bound(self) -> bool:
        """Whether the multiplier is as large as it may be; for 0 it always is."""
        return self.head is not None and super().at_bound


def _log_mean(q: Distribution, z: Tensor) -> Tensor:
    """Logarithm of the mean density of codes (m, d) under rows, shape (m,)."""
    log_q = paired_log_prob(q, z)
    return torch.logsumexp(log_q, 1) - math.log(log_q.shape[1])
