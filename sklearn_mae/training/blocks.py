"""Constraints on a code of two blocks: the first is about a label, the second is not.

The first block a is to tell the label, and nothing else. Its information about the
label goes up through the prior's own classifier, H(y) + E log p(y|a), which is also
what labelled rows add to their bound on log p(x, y); and down through its rate, which
is above all that it tells, of rows with labels and without. Where both are M_target, a
is distributed as p(a|y) says.

The second block's information is held at 0 through a bank of encoded rows. Unlabelled
rows stand in it with the class that the first block tells them to be of.

Labelled rows are drawn for these constraints, so that few of them count in each step.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.information import encoded, part_of
from sklearn_mae.model import BlockPrior, ClassNormals, LatentVariableModel, draw
from sklearn_mae.training.constraints import Constraint, Step, Term
from sklearn_mae.training.penalty import Constant, DualAscent
from sklearn_mae.training.targets import Bank

__all__ = ["FirstBlock", "FirstRate", "SecondBlock", "class_prior"]

# rows drawn for a term
N_DRAWN = 128
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
    """Constraint on a block of the code.

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
        self.everyone = torch.arange(len(labels), device=labels.device)

    def term(self, step: Step) -> Term | None:
        """Return the step's term, its weight from earlier estimates."""
        return None if step.number % self.period else self._term(step)

    def _term(self, step: Step) -> Term:
        raise NotImplementedError

    def _drawn(self, step: Step, among: Tensor) -> tuple[Tensor, Distribution, Tensor]:
        """Draw rows, numbers among given ones: these, q of the block, and codes."""
        some = torch.randint(
            len(among), (N_DRAWN,), generator=step.generator, device=among.device
        )
        rows = among[some]
        q = part_of(step.model.q(self.x.take(rows)), self.block)
        return rows, q, draw(q, (), step.generator)


class FirstBlock(_OfBlock):
    """The first block tells the label: H(y) + E log p(y|a) is at least M_target."""

    name = "target"

    def __init__(self, penalty, x, labels, shares, block):
        super().__init__(penalty, x, labels, shares, block)
        self.labelled = self.everyone[labels >= 0]
        self.entropy = float(-(shares * shares.log()).sum())

    def _term(self, step: Step) -> Term:
        rows, _, a = self._drawn(step, self.labelled)
        log_class = class_prior(step.model).log_class(a)
        told = log_class.gather(-1, self.labels[rows].unsqueeze(-1)).mean()
        share = len(self.labelled) / len(self.labels)
        weight = share - min(0.0, self.penalty.weight)
        return Term(-self.period * weight * told, self.entropy + told)

    def update(self, estimate: float) -> None:
        """Move the multiplier, which is not to push down."""
        super().update(estimate)
        self.penalty.multiplier = min(0.0, self.penalty.multiplier)


class FirstRate(_OfBlock):
    """The first block tells nothing else: its rate is at most M_target."""

    name = "target_rate"

    def _term(self, step: Step) -> Term:
        _, q, a = self._drawn(step, self.everyone)
        rate = class_prior(step.model).kl(q, a.unsqueeze(0)).mean()
        return Term(self.period * max(0.0, self.penalty.weight) * rate, rate)

    def update(self, estimate: float) -> None:
        """Move the multiplier, which is not to push up."""
        super().update(estimate)
        self.penalty.multiplier = max(0.0, self.penalty.multiplier)


class SecondBlock(_OfBlock):
    """The second block knows nothing of the label."""

    name = "rest"

    def __init__(self, penalty, x, labels, shares, block):
        super().__init__(penalty, x, labels, shares, block)
        self.bank = Bank(x, shares, block)
        self._classes = labels.clone()
        self._terms = 0

    @property
    def at_bound(self) -> bool:
        """For a target of 0 the multiplier always is what it may be."""
        return False

    def _term(self, step: Step) -> Term:
        if self._terms % REFRESHED == 0:
            self._refill(step.model, step.generator)
        self._terms += 1
        rows, _, b = self._drawn(step, self._known())
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
        rows = [known[self._classes[known] == y] for y in range(len(self.shares))]
        self.bank.refill(model, rows, generator)
