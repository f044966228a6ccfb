"""A likelihood that is given something besides the code, whatever family it is of."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.families.base import Likelihood
from sklearn_mae.model import Cost, LatentVariableModel, Rows

__all__ = ["GivenLikelihood"]


class GivenLikelihood(Likelihood):
    """p(x|z, g) from a likelihood of longer codes: g stands behind z.

    Parameters
    ----------
    inner : Likelihood
        Of codes of d + G numbers.
    n_components : int
        Dimension d of the code.
    usual : Tensor of shape (G,)
        What stands for g where none is given.
    """

    usual: Tensor

    def __init__(self, inner: Likelihood, n_components: int, usual: Tensor):
        super().__init__()
        self.inner, self.n_components = inner, n_components
        self.register_buffer("usual", usual, persistent=False)
        self.n_features = inner.n_features
        self.repeatable, self.sequential = inner.repeatable, inner.sequential

    @property
    def cost(self) -> Cost:  # type: ignore[override]
        """What decoding costs."""
        return self.inner.cost

    @property
    def n_numbers(self) -> int:
        """Numbers that p(x|z, g) holds for each code."""
        return self.inner.n_numbers

    def whole(self, z: Tensor, given: Tensor | None) -> Tensor:
        """Return codes (..., d) and what is given, (..., d + G)."""
        given = self.usual if given is None else given
        shape = torch.broadcast_shapes(z.shape[:-1], given.shape[:-1])
        parts = [z.expand(*shape, -1), given.to(z).expand(*shape, -1)]
        return torch.cat(parts, -1)

    def forward(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """Return p(x|z, g)."""
        return self.inner(self.whole(z, given))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Those of the inner likelihood."""
        return self.inner.shared_parameters()

    def parameters_when_held(self) -> list[nn.Parameter]:
        """Those of the inner likelihood, whose code holds what is given, too."""
        return self.inner.parameters_when_held()

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Return the value that stands for p(x|z, g)."""
        return self.inner.decode(self.whole(z, given))

    def expected(
        self, z: Tensor, weights: Tensor, given: Tensor | None = None
    ) -> Tensor:
        """Return the value that stands for a mixture over codes."""
        return self.inner.expected(self.whole(z, given), weights)

    def fisher_information(self, z: Tensor, x: Rows | None = None) -> Tensor | None:
        """Of rows x about z, what is given held."""
        given = None if x is None else Rows.of(x).given
        found = self.inner.fisher_information(self.whole(z, given), x)
        d = z.shape[-1]
        return None if found is None else found[..., :d, :d]

    def log_prob_alone(self, x: Rows) -> Tensor:
        """Log p(x|g) of rows at the code 0."""
        x = Rows.of(x)
        nothing = self.usual.new_zeros(len(x), self.n_components)
        return x.log_prob(self(nothing, x.given))

    def filled(self, x: Rows, z: Tensor, seed: int):
        """Draw what is missing of rows, as the inner likelihood does."""
        return self.inner.filled(x, self.whole(z, x.given), seed)

    def points(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return the rows that stand for drawn ones with weights."""
        return self.inner.points(values, weights)

    def score_gradient(self, model: LatentVariableModel, plain: bool):
        """Return the inner likelihood's strategy."""
        return self.inner.score_gradient(model, plain)
