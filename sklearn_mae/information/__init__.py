"""Bounds on the model's information I(x, z), per sample and in nats.

With z0 ~ p(z), x ~ p(x|z0), proposals z_1..z_K ~ r_omega(z|x) independent of z0 given
x, and w_j = p(z_j) p(x|z_j) / r_omega(z_j|x):

    lower  L_K = E[ log p(x|z0) - log (1/(K+1)) sum_{j=0..K} w_j ]  <=  I
    upper  U_K = E[ log p(x|z0) - log (1/K)     sum_{j=1..K} w_j ]  >=  I
    L_0 = H(z) + E log r_omega(z0|x): the paper's infomax bound     (eq. 7, 9)

Where I must fall, the gradient goes through U_K; where it must rise, through L_K.
Minimising a *lower* bound would teach the decoder to mislead r_omega, not to forget.
The gradient is taken at fixed omega and includes the paths from x through r_omega into
the proposals and their densities.

After training the proposals come from a mixture around each x (``proposals.py``), and
the noise of a joint draw is averaged out as far as its proposals allow
(``correction``). Where no affordable number of them closes the gap they are annealed
(``annealing.py``), or give way to codes that all rows share (``common.py``). In one or
two dimensions lattices come first (``quadrature.py``).
"""

from sklearn_mae.information.bounds import (
    Weighted,
    control_variates,
    correction,
    infomax,
    prior_entropy,
    sandwich,
    weigh,
)
from sklearn_mae.information.certificate import (
    estimate_sandwich,
    information_of_model,
    regressed_mean,
    training_bias,
)
from sklearn_mae.information.proposals import amortised_proposal, local_proposal

__all__ = [
    "Weighted",
    "amortised_proposal",
    "control_variates",
    "correction",
    "estimate_sandwich",
    "infomax",
    "information_of_model",
    "local_proposal",
    "prior_entropy",
    "regressed_mean",
    "sandwich",
    "training_bias",
    "weigh",
]
