"""Likelihoods that a user supplies: a module from codes to a torch Distribution."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from sklearn_mae.families.base import Likelihood, Structure
from sklearn_mae.families.gaussian import Continuous
from sklearn_mae.families.modules import call_factory
from sklearn_mae.families.table import Table
from sklearn_mae.model import draw

__all__ = ["UserLikelihood", "UserTable"]

# behind the point of a Distribution without a mean
N_DRAWS = 256


class UserLikelihood(Likelihood):
    """A user's module, its Distribution brought to one event of D columns.

    Parameters
    ----------
    module : nn.Module
        ``forward(z)`` returns a torch Distribution over the columns.
    n_features : int
        Number of columns D.
    """

    def __init__(self, module, n_features):
        super().__init__()
        self.module = module
        self.n_features = n_features

    def forward(self, z: Tensor, given: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        p = self.module(z)
        return Independent(p, 1) if not p.event_shape else p

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Return means; where there is no closed one, those of 256 seeded draws."""
        try:
            return self(z).mean
        except NotImplementedError:
            pass
        # row by row: a row's draws are not to depend on the rows beside it
        means = []
        for row in z.flatten(0, -2).unsqueeze(1):
            generator = torch.Generator(z.device).manual_seed(0)
            x = draw(self(row), (N_DRAWS,), generator, reparametrised=False)
            means.append(x.mean(0))
        return torch.cat(means).unflatten(0, z.shape[:-1])


class UserTable(Table):
    """Columns of numbers as given, under a user's likelihood."""

    # whether its Distribution gives densities is not asked
    discrete = None
    # nor of which entries: none can be left out
    holes = False

    def __init__(self):
        super().__init__(Continuous())

    def likelihood(self, structure: Structure) -> nn.Module:
        """Call the user's factory."""
        n_columns, factory = self.n_varying, structure.likelihood
        module = call_factory("likelihood", factory, n_columns, structure.n_decoded)
        return UserLikelihood(module, n_columns)
