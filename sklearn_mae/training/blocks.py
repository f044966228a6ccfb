"""Constraints on a code of two blocks: the first is about a label, the second is not.

Labelled rows are drawn for these constraints alone, so that few labels count in each
step. The first block's information about labels goes down through a bank of encoded
rows and up through the prior's own classifier p(y|a), which is also what labelled rows
add to their bound on log p(x, y). The second block's is held at 0. Unlabelled rows
stand in its bank with the class that the first block tells them to be of.
"""

import math

import torch
from torch import Tensor

from sklearn_mae.information import encoded, part_of
from sklearn_mae.model import BlockPrior, ClassNormals, LatentVariableModel, draw
from sklearn_mae.training.constraints import Constraint, Step, Term
from sklearn_mae.training.penalty import Constant, DualAscent
from sklearn_mae.training.targets import Bank

__all__ = ["FirstBlock", "SecondBlock", "class_prior"]

# rows drawn for a term
N_DRAWN = 128
# labelled rows of each class from which on a bank of them tells what codes hold
ENOUGH = 50
# rows whose classes the first block tells at once
GUESSED = 10_000
# terms between two banks
REFRESHED = 5


def class_prior(model: LatentVariableModel) -> ClassNormals:
    """Return the prior of the first block."""
    assert isinstance(model.prior, BlockPrior)
    prior = model.prior.blocks[0]
    assert isinstance(prior, ClassNormals)
    return prior


class _OfBlock(Constraint):
    """Constraint on what a block of the code tells about labels.

    Parameters
    ----------
    penalty : DualAscent or Constant
        Holds the multiplier.
    x : Rows or object
        Rows to train on; ``take`` picks some by their numbers.
    labels : Tensor of shape (n,), int64
        Their classes, -1 for unlabelled ones.
    shares : Tensor of shape (k,)
        Frequencies of the classes.
    block : slice
        The block's components.
    """

    holds_M = False
    # steps between two terms
    period = 2

    def __init__(
        self,
        penalty: DualAscent | Constant,
        x,
        labels: Tensor,
        shares: Tensor,
        block: slice,
    ):
        super().__init__(penalty)
        self.x, self.labels, self.shares, self.block = x, labels, shares, block
        self.bank = Bank(x, shares, block)
        self._terms = 0

    def _drawn(self, step: Step, among: Tensor) -> tuple[Tensor, Tensor]:
        """Draw rows, numbers among given ones, and codes of theirs."""
        some = torch.randint(
            len(among), (N_DRAWN,), generator=step.generator, device=among.device
        )
        rows = among[some]
        q = part_of(step.model.q(self.x.take(rows)), self.block)
        return rows, draw(q, (), step.generator)

    def _by_class(self, labels: Tensor, among: Tensor) -> list[Tensor]:
        return [among[labels == label] for label in range(len(self.shares))]

    def _refills(self) -> bool:
        """Whether it is time for another bank."""
        self._terms += 1
        return self._terms % REFRESHED == 1


class FirstBlock(_OfBlock):
    """The first block knows the label: I(a; y) = M_target, and labels are learned."""

    name = "target"

    def __init__(self, penalty, x, labels, shares, block):
        super().__init__(penalty, x, labels, shares, block)
        self.labelled = (labels >= 0).nonzero().squeeze(-1)
        self.rows = self._by_class(labels[self.labelled], self.labelled)
        self.entropy = float(-(shares * shares.log()).sum())
        self.enough = min(len(rows) for rows in self.rows) >= ENOUGH
        self.offset = 0.0

    def term(self, step: Step) -> Term | None:
        """Return log p(y|a) of labelled rows' bounds, and the constraint's term."""
        if step.number % self.period:
            return None
        rows, a = self._drawn(step, self.labelled)
        labels = self.labels[rows]
        log_class = class_prior(step.model).log_class(a)
        told = log_class.gather(-1, labels.unsqueeze(-1)).mean()
        # from few labelled rows: a bound from below, and the information where the
        # codes of a class are distributed as the prior says
        information = self.entropy + told
        if self.enough:
            if self._refills():
                self.bank.refill(step.model, self.rows, step.generator)
            information = self.bank.compared(a, labels).mean()
        weight = self.penalty.weight
        side = information if weight > 0 else told
        share = len(self.labelled) / len(self.labels)
        return Term(self.period * (weight * side - share * told), information)

    def update(self, estimate: float) -> None:
        """Move the multiplier by this step's estimate."""
        super().update(estimate - self.offset)

    def calibrate(
        self, model: LatentVariableModel, progress: float, generator: torch.Generator
    ) -> None:
        """Correct the bank's estimate against a comparison with many more rows."""
        if self.enough:
            bias = self.bank.bias(model, self.rows, self.labels, generator)
            if math.isfinite(bias):
                self.offset += (1.0 if self.offset == 0 else 0.5) * (bias - self.offset)

    def state_dict(self) -> dict[str, float]:
        """Return multiplier and offset."""
        return {**super().state_dict(), "offset": self.offset}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Take over multiplier and offset."""
        super().load_state_dict(state)
        self.offset = state.get("offset", 0.0)


class SecondBlock(_OfBlock):
    """The second block knows nothing of the label."""

    name = "rest"

    def __init__(self, penalty, x, labels, shares, block):
        super().__init__(penalty, x, labels, shares, block)
        self.everyone = torch.arange(len(labels), device=labels.device)
        self._classes = labels.clone()

    @property
    def at_bound(self) -> bool:
        """For a target of 0 the multiplier always is what it may be."""
        return False

    def term(self, step: Step) -> Term | None:
        """Return the step's term."""
        if step.number % self.period:
            return None
        if self._refills():
            self._refill(step.model, step.generator)
        rows, b = self._drawn(step, self._known())
        information = self.bank.compared(b, self._classes[rows]).mean()
        return Term(self.period * self.penalty.weight * information, information)

    def _known(self) -> Tensor:
        return self.everyone[self._classes >= 0]

    @torch.no_grad()
    def _refill(self, model: LatentVariableModel, generator: torch.Generator) -> None:
        """Say which classes unlabelled rows are of, and fill the bank."""
        unlabelled = self.everyone[self.labels < 0]
        if len(unlabelled) > GUESSED:
            self._classes = self.labels.clone()
            order = torch.randperm(
                len(unlabelled), generator=generator, device=unlabelled.device
            )
            unlabelled = unlabelled[order[:GUESSED]]
        if len(unlabelled):
            prior = class_prior(model)
            first = slice(prior.n_components)
            q = encoded(model, self.x.take, unlabelled, first)
            self._classes[unlabelled] = prior.log_class(q.mean).argmax(-1)
        known = self._known()
        self.bank.refill(model, self._by_class(self._classes[known], known), generator)
