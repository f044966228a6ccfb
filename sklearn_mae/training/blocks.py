"""Constraints on a code of two blocks: the first is about a label, the second is not.

The first block a is to tell the label, and nothing else. Its information about the
label goes up through the prior's own classifier, H(y) + E log p(y|a), which is also
what labelled rows add to their bound on log p(x, y); and down through its rate, which
is above all that it tells, of rows with labels and without. Where both are M_target, a
is distributed as p(a|y) says.

The second block's information is held at 0 through a bank of encoded rows.

Labelled rows are drawn for these constraints, so that few of them count in each step.
Unlabelled ones take part with classes that are guessed (``guesses.py``): the first
block learns these, too, as far as they are certain.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from sklearn_mae.information import part_of
from sklearn_mae.model import draw
from sklearn_mae.training.constraints import Constraint, Step, Term
from sklearn_mae.training.guesses import Guesses, class_prior
from sklearn_mae.training.penalty import Constant, DualAscent
from sklearn_mae.training.targets import Bank

__all__ = ["FirstBlock", "FirstRate", "SecondBlock"]

# rows drawn for a term
N_DRAWN = 128
# terms between two banks, and two guesses
REFRESHED = 5


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
        rows = among[self._some(step, among)]
        return rows, *self._encoded(step, rows)

    def _some(self, step: Step, among: Tensor) -> Tensor:
        """Draw positions in a tensor, shape (N_DRAWN,)."""
        size = (N_DRAWN,)
        return torch.randint(
            len(among), size, generator=step.generator, device=among.device
        )

    def _encoded(self, step: Step, rows: Tensor) -> tuple[Distribution, Tensor]:
        q = part_of(step.model.q(self.x.take(rows)), self.block)
        return q, draw(q, (), step.generator)


class FirstBlock(_OfBlock):
    """The first block tells the label: H(y) + E log p(y|a) is at least M_target.

    Parameters
    ----------
    penalty, x, labels, shares, block
        See ``_OfBlock``.
    guesses : Guesses
        Of unlabelled rows.
    """

    name = "target"

    def __init__(self, penalty, x, labels, shares, block, guesses: Guesses):
        super().__init__(penalty, x, labels, shares, block)
        self.labelled = self.everyone[labels >= 0]
        self.entropy = float(-(shares * shares.log()).sum())
        self.guesses = guesses
        self._terms = 0

    def _term(self, step: Step) -> Term:
        log_class = class_prior(step.model).log_class
        rows, _, a = self._drawn(step, self.labelled)
        told = log_class(a).gather(-1, self.labels[rows].unsqueeze(-1)).mean()
        share = len(self.labelled) / len(self.labels)
        weight = share - min(0.0, self.penalty.weight)
        learned = told
        if not self.guesses.all_known:
            learned = learned + self._guessed(step, log_class)
        return Term(-self.period * weight * learned, self.entropy + told)

    def _guessed(self, step: Step, log_class) -> Tensor:
        """E log p(y|a) of guessed classes, weighted by how certain these are."""
        if self._terms % REFRESHED == 0:
            self.guesses.refresh(step.model)
        self._terms += 1
        proba = self.guesses.probabilities
        some = self._some(step, proba)
        _, a = self._encoded(step, self.guesses.rows[some])
        proba = proba[some]
        doubt = -torch.xlogy(proba, proba).sum(-1) / math.log(proba.shape[-1])
        return ((1 - doubt) * (proba * log_class(a)).sum(-1)).mean()

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
    """The second block knows nothing of the label.

    Parameters
    ----------
    penalty, x, labels, shares, block
        See ``_OfBlock``.
    guesses : Guesses
        Of unlabelled rows, which the first block's constraint refreshes.
    """

    name = "rest"

    def __init__(self, penalty, x, labels, shares, block, guesses: Guesses):
        super().__init__(penalty, x, labels, shares, block)
        self.bank = Bank(x, shares, block)
        self.guesses = guesses
        self._terms = 0

    @property
    def at_bound(self) -> bool:
        """For a target of 0 the multiplier always is what it may be."""
        return False

    def _term(self, step: Step) -> Term:
        numbers, classes = self.guesses.rows, self.guesses.classes
        if self._terms % REFRESHED == 0:
            rows = [numbers[classes == y] for y in range(len(self.shares))]
            self.bank.refill(step.model, rows, step.generator)
            self._banked = classes
        self._terms += 1
        some = self._some(step, numbers)
        _, b = self._encoded(step, numbers[some])
        information = self.bank.compared(b, self._banked[some]).mean()
        return Term(self.period * self.penalty.weight * information, information)
