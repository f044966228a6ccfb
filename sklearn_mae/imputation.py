"""Entries that are missing, from the model's posterior given those that are there.

Codes z_s ~ s(z) are weighted by p(z_s) p(x_o|z_s) / s(z_s): the posterior of the
model, not the encoder's. s is a mixture around that posterior's mode, with a share of
the prior. What is missing is independent of x_o given z.
"""

import torch
from torch import Tensor

from sklearn_mae.evaluation import Evaluation, refuse_nan
from sklearn_mae.information import wary_proposal
from sklearn_mae.model import Rows, draw

__all__ = ["conditional_draws", "conditional_means"]

# weighted codes behind the value of an entry, and behind some draws of a row: few of
# them are drawn twice
N_CODES, N_CODES_OF_DRAWS, DRAWS_AT_ONCE = 256, 1_024, 256
# codes decoded in one call
DECODED_AT_ONCE = 4_096


def conditional_means(evaluation: Evaluation, x: Rows, keys: Tensor) -> Tensor:
    """Return the values that stand for all entries given the observed ones, (n, D).

    Means of continuous columns, rounded ones of counts, most probable categories.
    ``keys`` (n, k d + 1) is noise of each row's own.
    """
    if x.observed is None:
        return x.values

    def expected(x, keys):
        z, log_w = evaluation.weighted_codes(x, N_CODES, keys)
        weights = torch.softmax(log_w, 0)
        return evaluation.model.likelihood.expected(z, weights, x.given)

    return evaluation.by_rows(expected, N_CODES, x, keys)


@torch.no_grad()
def conditional_draws(
    evaluation: Evaluation, x: Rows, n_samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw codes and whole rows given the observed entries of rows.

    Returns
    -------
    values : Tensor of shape (n_samples, n, D)
        Entries, those that are observed drawn, too.
    codes : Tensor of shape (n_samples, n, d)
        What they were drawn from.

    Raises
    ------
    ValueError
        If weights are not a number.
    """
    model = evaluation.model
    rows = max(1, model.at_once(DECODED_AT_ONCE) // N_CODES_OF_DRAWS)
    values, codes = [], []
    for start in range(0, len(x), rows):
        some = x[start : start + rows]
        proposal = wary_proposal(model, some)
        of_some = []
        for first in range(0, n_samples, DRAWS_AT_ONCE):
            z = draw(proposal, (N_CODES_OF_DRAWS,), generator, reparametrised=False)
            weights = torch.softmax(model.log_weights(some, z, proposal), 0)
            refuse_nan(weights.T, start)
            chosen = torch.multinomial(
                weights.T,
                min(DRAWS_AT_ONCE, n_samples - first),
                replacement=True,
                generator=generator,
            )
            index = chosen.T.unsqueeze(-1).expand(-1, -1, z.shape[-1])
            of_some.append(z.gather(0, index))
        z = torch.cat(of_some)
        parts = [
            draw(model.p(part, some.given), (), generator, reparametrised=False)
            for part in z.split(DRAWS_AT_ONCE)
        ]
        values.append(torch.cat(parts))
        codes.append(z)
    return torch.cat(values, 1), torch.cat(codes, 1)
