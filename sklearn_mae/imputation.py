"""Entries that are missing, from the model's posterior given those that are there.

Codes z_s ~ q(z|x_o) are weighted by p(z_s) p(x_o|z_s) / q(z_s|x_o): the posterior of
the model, not the encoder's. What is missing is independent of x_o given z.
"""

import torch
from torch import Tensor

from sklearn_mae.evaluation import Evaluation
from sklearn_mae.model import Rows, draw

__all__ = ["conditional_draws", "conditional_means"]

# weighted codes behind the value of an entry, and behind draws of a row
N_CODES, N_CODES_OF_DRAWS = 256, 1_024
# codes for each draw of a row, at least: few of them are drawn twice
CODES_PER_DRAW = 4
# codes decoded in one call
DECODED_AT_ONCE = 4_096


def conditional_means(evaluation: Evaluation, x: Rows, keys: Tensor) -> Tensor:
    """Return the values that stand for all entries given the observed ones, (n, D).

    Means of continuous columns, rounded ones of counts, most probable categories.
    ``keys`` (n, k d + 1) is noise of each row's own.
    """

    def expected(x, keys):
        z, log_w = evaluation.weighted_codes(x, N_CODES, keys)
        weights = torch.softmax(log_w, 0)
        return evaluation.model.likelihood.expected(z, weights)

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
    """
    model = evaluation.model
    n_codes = max(N_CODES_OF_DRAWS, CODES_PER_DRAW * n_samples)
    values, codes = [], []
    for some in x.split(max(1, model.at_once(DECODED_AT_ONCE) // n_codes)):
        q = model.q(some)
        z = draw(q, (n_codes,), generator, reparametrised=False)
        weights = torch.softmax(model.log_weights(some, z, q), 0)
        chosen = torch.multinomial(
            weights.T, n_samples, replacement=True, generator=generator
        )
        index = chosen.T.unsqueeze(-1).expand(-1, -1, z.shape[-1])
        z = z.gather(0, index)
        p = model.p(z, some.given)
        values.append(draw(p, (), generator, reparametrised=False))
        codes.append(z)
    return torch.cat(values, 1), torch.cat(codes, 1)
