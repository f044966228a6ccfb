"""What ``fit`` says when the information reached is not the one asked for."""

import numpy as np

from sklearn_mae.estimator.fitted import Fitted
from sklearn_mae.estimator.parts import AUTO_STEPS
from sklearn_mae.model import Rows

__all__ = ["convergence_complaint"]


def convergence_complaint(params, fitted: Fitted, x: Rows) -> str | None:
    """Say that M was missed and all that may have caused it; None if it was not.

    Missed is M where an end of the bracket of I(x, z) is more than max(0.05, 0.02 M)
    from it; and, under ``constraint="both"``, where the codes' mean rate is more than
    max(0.05, 0.05 M) and two standard errors from it. A multiplier that ended at its
    bound is a cause, not a miss.

    Parameters
    ----------
    params : MutualAutoencoder
        Parameters.
    fitted : Fitted
        What was reached, its net not yet released.
    x : Rows of shape (n, n_features)
        Rows trained on.
    """
    M, net = params.M, fitted.net_
    if M is None:
        return None
    low, high = fitted.mutual_info_interval_
    tolerance = max(0.05, 0.02 * M)
    misses = []
    if not max(M - low, high - M) <= tolerance:
        misses.append(f"I(x, z) lies in [{low:.3f}, {high:.3f}]")
    off = abs(fitted.rate_ - M) - 2 * fitted.rate_se
    if params.constraint == "both" and not off <= max(0.05, 0.05 * M):
        misses.append(f"the codes' rate is {fitted.rate_:.3g} nats, not {M:g}")
    if not misses:
        return None
    at_bound = {c.name: c.penalty.C for c in net.constraints if c.at_bound}
    causes = []
    if at_bound:
        causes.append(
            f"the multiplier of the {' and the '.join(at_bound)} ended at its bound "
            f"C={next(iter(at_bound.values())):g}: raise C"
        )
    outcomes = net.module_.outcomes()
    if outcomes is not None and M > np.log(len(outcomes)) - tolerance:
        causes.append(
            f"X has {len(outcomes)} possible outcomes and so at most "
            f"{np.log(len(outcomes)):.3g} nats: lower M"
        )
    elif fitted.family.discrete:
        n_rows, entropy = _different(x)
        if M > entropy - tolerance:
            causes.append(
                f"X holds {n_rows} different rows, {entropy:.3g} nats: lower M, or "
                "give it more rows"
            )
    elbo = fitted.history_["elbo"]
    if len(elbo) and elbo[-1] < elbo[0]:
        causes.append(
            "training ended with a lower ELBO than it began with, "
            f"{elbo[-1]:.4g} after {elbo[0]:.4g}: lower lr (lr={params.lr:g} was "
            "given) or M"
        )
    if net.step_ < net.n_steps_:
        causes.append(
            f"a callback ended the training after {net.step_} of {net.n_steps_} steps: "
            "give it more patience"
        )
    elif net.step_ < AUTO_STEPS and params.max_epochs != "auto":
        causes.append(
            f"training took {net.step_} steps, fewer than the usual {AUTO_STEPS}: "
            "raise max_epochs"
        )
    if params.constraint == "paper":
        causes.append(
            "constraint='paper' steers by a lower bound: use constraint='both'"
        )
    if high - low > tolerance and low - tolerance <= M <= high + tolerance:
        causes.append(
            "the bracket is wide: call mutual_info with more samples or a smaller tol"
        )
    if not causes:
        causes.append(
            "the data or the decoder resist it: train longer, or move M towards what "
            "M=None reaches"
        )
    return (
        f"M={M:g} nats was asked for and {' and '.join(misses)}. Possible causes: "
        f"{'; '.join(causes)}."
    )


def _different(x: Rows) -> tuple[int, float]:
    """Number of different rows, and the entropy of drawing one of all, in nats."""
    counts = x.values.unique(dim=0, return_counts=True)[1].double()
    shares = counts / counts.sum()
    return len(counts), float(-(shares * shares.log()).sum())
