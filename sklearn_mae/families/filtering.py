"""Posteriors that also know what each prefix of a row says of z."""

from torch import Tensor, nn

from sklearn_mae.model import DiagonalNormal, Prior

__all__ = ["FilteredNormal", "filter_objective"]


class FilteredNormal(DiagonalNormal):
    """Normal over z given a whole row, and one given each of its prefixes.

    Parameters
    ----------
    whole : DiagonalNormal
        Given the row.
    prefixes : DiagonalNormal
        Of batch shape (..., T): given the first 1 .. T tokens.
    inside : Tensor of shape (..., T), bool
        Where a row has tokens.
    """

    def __init__(self, whole: DiagonalNormal, prefixes: DiagonalNormal, inside: Tensor):
        super().__init__(whole.loc, whole.log_scale)
        self.prefixes, self.inside = prefixes, inside

    def log_ratio_before(self, z: Tensor, prior: Prior) -> Tensor:
        """Log r(z|x_<t) / p(z) for each token t, shape (..., T): 0 for the first."""
        log_ratio = self.prefixes.log_prob(z.unsqueeze(-2))
        log_ratio = log_ratio - prior.log_prob(z).unsqueeze(-1)
        return nn.functional.pad(log_ratio[..., :-1], (1, 0))


def filter_objective(r: FilteredNormal, z: Tensor) -> Tensor:
    """What a filter maximises: log r(z|x), plus its mean over the row's prefixes."""
    partial = r.prefixes.log_prob(z.unsqueeze(-2)) * r.inside
    return r.log_prob(z) + partial.sum(-1) / r.inside.sum(-1)
