"""What ``fit`` says when the information reached is not the one asked for."""

import math
from types import SimpleNamespace

import numpy as np
import torch

from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.parts import DEFAULT_LR, resolve_lengths
from sklearn_mae.estimator.sparse import SparseRows
from sklearn_mae.information import hits
from sklearn_mae.model import Rows
from sklearn_mae.training import near_enough

__all__ = ["convergence_complaint"]

# Nats for each component that a code holds easily. For more, a larger C helps less than
# more components.
EASY_NATS = 3
# rates up to which training gets nowhere, and from which on it often explodes
IDLE_LR, EXPLOSIVE_LR = DEFAULT_LR / 100, 0.03
# by how much the ELBO of two epochs may differ by noise alone, in nats
NOISE_OF_ELBO = 1.0


def convergence_complaint(params, fitted: Fitted, x: Rows | SparseRows) -> str | None:
    """Say that M was missed and all that may have caused it; None if it was not.

    Missed is M where all of the bracket of I(x, z) is more than max(0.05, 0.02 M) from
    it; where a part of the bracket is, that is not decided. Under
    ``constraint="both"`` it is also missed where the codes' mean rate is more than
    max(0.05, 0.05 M) and two standard errors from it. A multiplier that ended at its
    bound is a cause, not a miss.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    fitted : Fitted
        What was reached, its net not yet released.
    x : Rows or SparseRows of shape (n, n_features)
        Rows trained on.
    """
    M = params.M
    if M is None:
        return None
    low, high = fitted.mutual_info_interval_
    tolerance = near_enough(M)
    undecided, missed, reached = "", [], []
    hit = hits((low, high), M, tolerance)
    if hit is None:
        undecided = (
            f"it is not decided whether I(x, z) is that: it lies in [{low:.3f}, "
            f"{high:.3f}], of which a part is within {tolerance:g} nats of M; "
            f"mutual_info(tol={tolerance:g}, n_samples=20_000) may decide"
        )
    elif not hit:
        missed.append(f"I(x, z) lies in [{low:.3f}, {high:.3f}]")
        reached.append(low if low > M else high)
    off = abs(fitted.rate_ - M) - 2 * fitted.rate_se
    if params.constraint == "both" and not off <= max(0.05, 0.05 * M):
        missed.append(f"the codes' rate is {fitted.rate_:.3g} nats, not {M:g}")
        reached.append(fitted.rate_)
    said = " and ".join([*missed, undecided] if undecided else missed)
    if not said:
        return None
    causes = _causes(params, fitted, x, tolerance, np.array(reached))
    if missed and not causes:
        causes.append(
            "the data or the decoder resist it: train longer, or move M towards what "
            "M=None reaches"
        )
    blamed = "Possible causes" if missed else "If it is not, possible causes"
    because = f" {blamed}: {'; '.join(causes)}." if causes else ""
    return f"M={M:g} nats was asked for and {said}.{because}"


def _causes(
    params, fitted: Fitted, x: Rows | SparseRows, tolerance: float, reached
) -> list[str]:
    """Return what may keep a fit from M; ``reached`` holds figures that missed it."""
    M, net, causes = params.M, fitted.net_, []
    # of this fit: that of an earlier one may be of other rows
    elbo = [epoch["elbo"] for epoch in net.history if "elbo" in epoch]
    fell = len(elbo) > 0 and elbo[-1] < elbo[0] - NOISE_OF_ELBO
    crowded = (reached < M).any() and M > EASY_NATS * params.n_components
    if fell:
        causes.append(
            "training ended with a lower ELBO than it began with, "
            f"{elbo[-1]:.4g} after {elbo[0]:.4g}: lower lr (lr={params.lr:g} was "
            "given) or M"
        )
    elif params.lr >= EXPLOSIVE_LR:
        causes.append(
            f"lr={params.lr:g} is {params.lr / DEFAULT_LR:.0f} times the default, "
            f"{DEFAULT_LR:g}, and training often explodes at such rates: lower lr"
        )
    elif params.lr <= IDLE_LR:
        causes.append(
            f"lr={params.lr:g} is {params.lr / DEFAULT_LR:.2g} times the default, "
            f"{DEFAULT_LR:g}: raise lr"
        )
    if crowded:
        causes.append(
            f"M={M:g} is {M / params.n_components:.3g} nats for each component of the "
            f"code: raise n_components (n_components={params.n_components} was given) "
            f"to {math.ceil(M / EASY_NATS)} or more before C"
        )
    full = False
    outcomes = net.module_.outcomes()
    if outcomes is not None and M > np.log(len(outcomes)) - tolerance:
        full = True
        causes.append(
            f"X has {len(outcomes)} possible outcomes and so at most "
            f"{np.log(len(outcomes)):.3g} nats: lower M"
        )
    elif fitted.family.discrete:
        n_rows, entropy = _different(x)
        if M > entropy - tolerance:
            full = True
            causes.append(
                f"X holds {n_rows} different rows, {entropy:.3g} nats: lower M, or "
                "give it more rows"
            )
    # where no C would do, a multiplier at its bound follows from that
    at_bound = {c.name: c.penalty.C for c in net.constraints if c.at_bound}
    if at_bound and not (fell or full or params.lr <= IDLE_LR):
        causes.append(
            f"the multiplier of the {' and the '.join(at_bound)} ended at its bound "
            f"C={next(iter(at_bound.values())):g}: raise C"
        )
    doubt = None
    if (reached > M).any():
        # of a large sparse table some rows: a hint needs no exact figure
        some = x if isinstance(x, Rows) else x.some(fitted.seed)
        doubt = fitted.family.misfit(some)
    if doubt is not None:
        causes.append(doubt)
    usual = _usual_steps(params, len(x))
    if net.step_ < net.n_steps_:
        causes.append(
            f"a callback ended the training after {net.step_} of {net.n_steps_} steps: "
            "give it more patience"
        )
    elif net.holds_decoder:
        causes.append(
            "the decoder is held where rows held out were likeliest, because it went "
            "on to learn others by heart, and only what reads the code learned, for "
            f"{net.step_} steps: raise max_epochs, lower hidden_layer_sizes "
            f"({params.hidden_layer_sizes} was given), or give it more rows, without "
            "warm_start"
        )
    elif net.step_ < usual and params.max_epochs != "auto":
        causes.append(
            f"training took {net.step_} steps, and max_epochs='auto' takes {usual} "
            "here: raise max_epochs"
        )
    if params.constraint == "paper":
        causes.append(
            "constraint='paper' steers by a lower bound: use constraint='both'"
        )
    return causes


def _usual_steps(params, n_rows: int) -> int:
    """Return how many steps ``max_epochs="auto"`` takes."""
    usual = SimpleNamespace(**{**vars(params), "max_epochs": "auto"})
    size, n_epochs = resolve_lengths(usual, n_rows)
    return n_epochs * -(-n_rows // size)


def _different(x: Rows | SparseRows) -> tuple[int, float]:
    """Number of different rows, and the entropy of drawing one of all, in nats.

    Of rows with missing entries given which those are.
    """
    if not isinstance(x, Rows):
        counts = torch.as_tensor(x.counts(), dtype=torch.float64)
        return len(counts), _entropy(counts)
    if x.observed is None:
        counts = x.values.unique(dim=0, return_counts=True)[1]
        return len(counts), _entropy(counts)
    seen = torch.where(x.observed, x.values, 0)
    seen = torch.cat([seen, x.observed.to(seen.dtype)], -1)
    counts = seen.unique(dim=0, return_counts=True)[1]
    of_patterns = x.observed.unique(dim=0, return_counts=True)[1]
    return len(counts), _entropy(counts) - _entropy(of_patterns)


def _entropy(counts: torch.Tensor) -> float:
    shares = counts.double() / counts.sum()
    return float(-(shares * shares.log()).sum())
