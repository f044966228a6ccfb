"""Entries that are missing, from the model's posterior given those that are there.

Codes z_s ~ s(z) are weighted by p(z_s) p(x_o|z_s) / s(z_s): the posterior of the
model, not the encoder's. s is a mixture around that posterior's mode, with a share of
the prior. What is missing is independent of x_o given z.

Where entries depend on those before them, too, missing ones are drawn in the order of
the columns, and weighted by the observed ones after them: sequential importance
sampling. p(x_o|z) of such a model is no marginal of p(x|z), and only proposes codes.
"""

import math
import warnings

import torch
from torch import Tensor

from sklearn_mae.evaluation import Evaluation, refuse_nan
from sklearn_mae.information import wary_proposal
from sklearn_mae.model import Rows, draw

__all__ = ["conditional_draws", "conditional_means", "log_prob_of_observed"]

# weighted codes behind the value of an entry, and behind some draws of a row: few of
# them are drawn twice
N_CODES, N_CODES_OF_DRAWS, DRAWS_AT_ONCE = 256, 1_024, 256
# codes decoded in one call, and entries drawn one after the other in one
DECODED_AT_ONCE, FILLED_AT_ONCE = 4_096, 1 << 18
# effective draws below which weighted ones are few
FEW_DRAWS = 10


def conditional_means(evaluation: Evaluation, x: Rows, keys: Tensor) -> Tensor:
    """Return the values that stand for all entries given the observed ones, (n, D).

    Means of continuous columns, rounded ones of counts, most probable categories.
    ``keys`` (n, k d + 1) is noise of each row's own.
    """
    if x.observed is None:
        return x.values
    if evaluation.model.likelihood.sequential:
        return _sequential_means(evaluation, x, keys)

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
    if model.likelihood.sequential:
        rows = _rows_filled_at_once(model)
    values, codes, effective = [], [], []
    for start in range(0, len(x), rows):
        some = x[start : start + rows]
        proposal = wary_proposal(model, some)
        if model.likelihood.sequential:
            each = _sequential_draws(model, some, proposal, n_samples, generator)
            values.append(each[0])
            codes.append(each[1])
            effective.append(each[2])
            continue
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
    _warn_of_few(effective, N_CODES_OF_DRAWS)
    return torch.cat(values, 1), torch.cat(codes, 1)


@torch.no_grad()
def log_prob_of_observed(evaluation: Evaluation, x: Rows, n_importance: int) -> Tensor:
    """Estimate the log-probability of the observed entries of rows, (n,).

    A marginal of the model's p(x), also where columns see which entries are missing.
    """
    if not evaluation.model.likelihood.sequential:
        return evaluation.log_likelihood(x, n_importance)
    _, log_w = _filled(evaluation, x, n_importance)
    return torch.logsumexp(log_w, 0) - math.log(n_importance)


def _rows_filled_at_once(model) -> int:
    return max(1, FILLED_AT_ONCE // (N_CODES_OF_DRAWS * model.likelihood.n_features))


def _filled(evaluation: Evaluation, x: Rows, n_codes: int, keys: Tensor | None = None):
    """Draw what is missing of rows, in order; return also the draws' log-weights."""
    model = evaluation.model
    z, log_w = evaluation.weighted_codes(x, n_codes, keys)
    filled = model.likelihood.filled(x, z, evaluation.seed)
    return filled, log_w - model.log_lik(x, z) + filled.log_lik


def _sequential_means(evaluation: Evaluation, x: Rows, keys: Tensor) -> Tensor:
    effective = []

    def means(x, keys):
        filled, log_w = _filled(evaluation, x, N_CODES_OF_DRAWS, keys)
        weights = torch.softmax(log_w, 0)
        effective.append(1 / weights.square().sum(0))
        return evaluation.model.likelihood.points(filled.values, weights)

    n_draws = DECODED_AT_ONCE // _rows_filled_at_once(evaluation.model)
    found = evaluation.by_rows(means, max(1, n_draws), x, keys)
    _warn_of_few(effective, N_CODES_OF_DRAWS)
    return found


def _sequential_draws(
    model, x: Rows, proposal, n_samples: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw rows (n_samples, n, D) and codes, and say how many draws are effective."""
    values: list[Tensor] = []
    codes: list[Tensor] = []
    effective = []
    for first in range(0, n_samples, DRAWS_AT_ONCE):
        z = draw(proposal, (N_CODES_OF_DRAWS,), generator, reparametrised=False)
        seed = torch.randint(2**62, (), generator=generator, device=generator.device)
        filled = model.likelihood.filled(x, z, int(seed))
        log_prior = model.prior.log_prob(z) - proposal.log_prob(z)
        weights = torch.softmax(log_prior + filled.log_lik, 0)
        refuse_nan(weights.T)
        effective.append(1 / weights.square().sum(0))
        n = min(DRAWS_AT_ONCE, n_samples - first)
        chosen = torch.multinomial(
            weights.T, n, replacement=True, generator=generator
        ).T.unsqueeze(-1)
        for found, drawn in ((values, filled.values), (codes, z)):
            index = chosen.expand(-1, -1, drawn.shape[-1])
            found.append(drawn.gather(0, index))
    rows = torch.cat(values).to(x.values.dtype)
    return rows, torch.cat(codes), torch.stack(effective).amin(0)


def _warn_of_few(effective: list[Tensor], n_draws: int) -> None:
    """Say how many rows rest on few draws, where draws were weighted one by one."""
    if not effective:
        return
    each = torch.cat(effective)
    few = each < FEW_DRAWS
    if few.any():
        warnings.warn(
            f"{int(few.sum())} of {len(each)} rows rest on fewer than {FEW_DRAWS} "
            f"effective draws of {n_draws} (the least: {float(each.min()):.1f}): what "
            "is known of them in later columns hardly ever agrees with what was drawn "
            "in earlier ones. Put columns that are often missing last.",
            UserWarning,
            stacklevel=3,
        )
