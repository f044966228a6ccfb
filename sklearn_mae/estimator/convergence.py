"""What ``fit`` says when the information reached is not the one asked for."""

import numpy as np

from sklearn_mae.estimator.parts import AUTO_STEPS, controls_of

__all__ = ["convergence_complaint"]


def convergence_complaint(fitted, net) -> str | None:
    """Say that M was missed and all that may have caused it; None if it was not.

    Parameters
    ----------
    fitted : MutualAutoencoder
        With its certificate.
    net : MutualAutoencoderNet
        Trained, its constraints not yet released.
    """
    M = fitted.M
    if M is None:
        return None
    low, high = fitted.mutual_info_interval_
    tolerance = max(0.05, 0.02 * M)
    plain = fitted.constraint == "paper"
    at_bound = [
        name
        for name, value in controls_of(net).items()
        if name != "offset" and abs(value) >= fitted.C
    ]
    if max(M - low, high - M) <= tolerance and not at_bound:
        return None
    causes = []
    if at_bound:
        causes.append(
            f"the multiplier of the {' and the '.join(at_bound)} ended at its bound "
            f"C={fitted.C:g}: raise C"
        )
    outcomes = net.module_.likelihood.outcomes()
    if outcomes is not None and M > np.log(len(outcomes)) - tolerance:
        causes.append(
            f"X has {len(outcomes)} possible outcomes and so at most "
            f"{np.log(len(outcomes)):.3g} nats: lower M"
        )
    if net.step_ < net.n_steps_:
        causes.append(
            f"a callback ended the training after {net.step_} of {net.n_steps_} steps: "
            "give it more patience"
        )
    elif net.step_ < AUTO_STEPS:
        causes.append(
            f"training took {net.step_} steps, fewer than the usual {AUTO_STEPS}: "
            "raise max_epochs"
        )
    if plain:
        causes.append(
            "constraint='paper' steers by a lower bound: use constraint='both'"
        )
    if high - low > tolerance:
        causes.append(
            "the bracket is wide: call mutual_info with more samples or a smaller tol"
        )
    if not causes:
        causes.append(
            "the data or the decoder resist it: train longer, or move M towards what "
            "M=None reaches"
        )
    return (
        f"M={M:g} nats was asked for and I(x, z) lies in [{low:.3f}, {high:.3f}]. "
        f"Possible causes: {'; '.join(causes)}."
    )
