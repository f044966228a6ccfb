"""Tables of continuous numbers under a conditional normalising flow, by zuko."""

from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn
from torch.distributions import Distribution

from sklearn_mae.families.base import NEEDS_NO_CODE, Structure
from sklearn_mae.families.joined import Joined
from sklearn_mae.families.table import Table
from sklearn_mae.families.user import UserLikelihood
from sklearn_mae.model import ACTIVATIONS, Cost, Rows

__all__ = ["FlowLikelihood", "FlowTable"]

# autoregressive spline transforms, one after the other
N_TRANSFORMS = 3


class FlowLikelihood(UserLikelihood):
    """Neural spline flow whose transforms see z.

    Its weights for z begin at zero: it learns the columns first.

    Parameters
    ----------
    module : nn.Module
        From codes to Distributions.
    n_features : int
        Number of columns D.
    n_components : int
        Dimension d of the code.
    """

    cost = Cost(
        many_codes=False,
        rows_with_gradients=256,
        budget=500_000,
        fit_budget=200_000,
        fit_samples=1_000,
        rated_rows=1_000,
    )
    repeatable = True

    def __init__(self, module: nn.Module, n_features: int, n_components: int):
        super().__init__(module, n_features)
        self.n_components = n_components

    def parameters_when_held(self) -> list[nn.Parameter]:
        """Those of the networks' first layers, which see columns, too; and levels."""
        networks = [transform.hyper for transform in self.module.transform.transforms]
        first = [each for net in networks for each in net[0].parameters()]
        return [*first, *(net[-1].bias for net in networks)]

    def log_prob_alone(self, x: Rows) -> Tensor:
        """Log p(x) of rows at the code 0, whose weights have no gradient there."""
        nothing = x.values.new_zeros(len(x), self.n_components)
        return self(nothing).log_prob(x.values)


class FlowTable(Table):
    """Columns of continuous numbers, standardised, under one flow.

    Entries may not be missing: a flow knows whole rows.
    """

    holes = False
    schedule = NEEDS_NO_CODE

    def fit(self, X, names: Iterable | None = None, y: object = None) -> "FlowTable":
        """Learn from a checked table of shape (n, n_features_in).

        Raises
        ------
        ImportError
            If zuko is not installed.
        ValueError
            If a column holds categories.
        """
        _zuko()
        if isinstance(self.family, Joined):
            category = np.array(self.family.likelihoods) == "categorical"
            if category.any():
                labels = np.arange(X.shape[1]) if names is None else np.array(names)
                raise ValueError(
                    "likelihood='flow' takes columns of continuous numbers, and "
                    f"column(s) {', '.join(map(str, labels[category]))} of X hold "
                    "categories. Leave them out, or set likelihood='autoregressive', "
                    "which takes both."
                )
        super().fit(X, names, y)
        return self

    def describe(self, tags) -> None:
        """Tables of numbers, dense ones."""
        super().describe(tags)
        tags.sparse = tags.string = False

    def likelihood(self, structure: Structure) -> nn.Module:
        """Build p(x|z)."""
        d = structure.n_decoded
        module = _zuko().flows.NSF(
            self.n_varying,
            d,
            transforms=N_TRANSFORMS,
            hidden_features=structure.hidden_layer_sizes,
            activation=ACTIVATIONS[structure.activation],
        )
        for transform in module.transform.transforms:
            # (the first layer sees columns and code)
            nn.init.zeros_(transform.hyper[0].weight[:, -d:])
        return FlowLikelihood(module, self.n_varying, d)

    def largest_layers(self, structure: Structure) -> list[int]:
        """Not known: zuko's networks are its own."""
        return []


def _zuko():
    """Return the module, or say how to get it."""
    validated = Distribution._validate_args
    try:
        import zuko
        import zuko.flows
    except ImportError as error:
        raise ImportError(
            "likelihood='flow' needs zuko, which is not installed. Install it: "
            "pip install zuko."
        ) from error
    # its import turns the validation of all distributions off
    Distribution.set_default_validate_args(validated)
    return zuko
