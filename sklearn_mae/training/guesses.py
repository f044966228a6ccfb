"""Classes of unlabelled rows, guessed: by the code's first block, and by near rows.

Near rows are mostly of one class. What the first block says of a row is replaced by the
mean of what it says of the row's nearest ones, a few times over; labelled rows keep
their label meanwhile. So labels travel along what lies close together, as in
scikit-learn's ``LabelSpreading``, though from all that the model has learned so far.
"""

import torch
from torch import Tensor

from sklearn_mae.information import encoded
from sklearn_mae.model import BlockPrior, ClassNormals, LatentVariableModel

__all__ = ["Guesses", "class_prior"]

# rows with a label, and without one, that are compared, at most
MOST = 10_000
# near rows of each, and how often what is said of them is averaged
NEAR, SPREADING = 7, 10
# distances held at once
AT_ONCE = 4_000_000


def class_prior(model: LatentVariableModel) -> ClassNormals:
    """Return the prior of the first block."""
    assert isinstance(model.prior, BlockPrior)
    prior = model.prior.blocks[0]
    assert isinstance(prior, ClassNormals)
    return prior


class Guesses:
    """Probabilities of the classes of rows.

    Parameters
    ----------
    x : Rows or object
        Rows to train on; ``take`` picks some by their numbers.
    labels : Tensor of shape (n,), int64
        Their classes, -1 for unlabelled ones.
    n_classes : int
        Number k of classes.
    generator : torch.Generator
        Chooses rows where they are many.

    Attributes
    ----------
    rows : Tensor of shape (m,), int64
        Numbers of the rows that are guessed, or known.
    probabilities : Tensor of shape (m, k)
        Of their classes.
    """

    def __init__(self, x, labels: Tensor, n_classes: int, generator: torch.Generator):
        self.x, self.n_classes = x, n_classes
        some = []
        for are in (labels >= 0, labels < 0):
            rows = are.nonzero().squeeze(-1)
            order = torch.randperm(
                len(rows), generator=generator, device=generator.device
            )
            some.append(rows[order[:MOST].to(rows.device)])
        self.rows = torch.cat(some)
        self.known = torch.arange(len(some[0]), device=labels.device)
        self.all_known = len(some[1]) == 0
        self._certain = torch.nn.functional.one_hot(labels[some[0]], n_classes)
        self.probabilities = self._certain.to(torch.get_default_dtype())
        self._near: Tensor | None = None

    @property
    def classes(self) -> Tensor:
        """The most probable class of each, shape (m,)."""
        return self.probabilities.argmax(-1)

    @torch.no_grad()
    def refresh(self, model: LatentVariableModel) -> None:
        """Guess anew from what the model has learned."""
        if self.all_known:
            return
        if self._near is None:
            self._near = self._nearest(model)
        prior = class_prior(model)
        q = encoded(model, self.x.take, self.rows, slice(prior.n_components))
        found = prior.log_class(q.mean).exp()
        certain = self._certain.to(found)
        found[self.known] = certain
        for _ in range(SPREADING if self._near.numel() else 0):
            found = self._spread(found)
            found[self.known] = certain
        self.probabilities = found

    def _spread(self, found: Tensor) -> Tensor:
        """Mean over the rows near each, and those that it is near: two-fold if both."""
        assert self._near is not None
        total = found[self._near].sum(1)
        each = found.repeat_interleave(self._near.shape[1], 0)
        total = total.index_add(0, self._near.flatten(), each)
        return total / total.sum(-1, keepdim=True)

    def _nearest(self, model: LatentVariableModel) -> Tensor:
        """Numbers of the nearest rows by what the encoder sees, (m, NEAR) or (0,)."""
        parts = self.rows.split(model.at_once(4096))
        seen = [model.seen(self.x.take(part)) for part in parts]
        if seen[0].dim() != 2 or not seen[0].is_floating_point():
            return self.rows[:0]  # words, say, are at no distance from each other
        features = torch.cat(seen)
        m = len(features)
        near = []
        for some in torch.arange(m, device=features.device).split(max(1, AT_ONCE // m)):
            distances = torch.cdist(features[some], features)
            distances.scatter_(1, some.unsqueeze(1), torch.inf)
            near.append(distances.topk(min(NEAR, m - 1), largest=False).indices)
        return torch.cat(near)
