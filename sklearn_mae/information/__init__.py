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

After training I is bracketed by the first method that can (``certificate.py``):

- outcomes of x listed and summed, z on lattices (``quadrature.py``) or represented by
  codes that all outcomes share (``shared_codes.py``);
- in one or two dimensions the posteriors of draws of x on lattices (``quadrature.py``);
- else the sandwich: proposals from a mixture around each x (``proposals.py``), plain or
  annealed (``importance.py``, ``annealing.py``), or codes that all rows share. Here
  Rao-Blackwell (``correction``) and control variates reduce the variance.
"""

from sklearn_mae.information.bounds import (
    Weighted,
    control_variates,
    correction,
    infomax,
    sandwich,
    weigh,
)
from sklearn_mae.information.bracket import Bracket, hits
from sklearn_mae.information.calibration import training_bias
from sklearn_mae.information.certificate import information_of_model
from sklearn_mae.information.importance import estimate_sandwich
from sklearn_mae.information.labels import (
    LabelInformation,
    encoded,
    information_about_labels,
    joined,
    midpoint_about_labels,
    paired_log_prob,
    part_of,
)
from sklearn_mae.information.proposals import (
    amortised_proposal,
    local_proposal,
    posterior_normal,
    wary_proposal,
)
from sklearn_mae.information.regression import regressed_mean

__all__ = [
    "Bracket",
    "LabelInformation",
    "Weighted",
    "amortised_proposal",
    "control_variates",
    "correction",
    "encoded",
    "estimate_sandwich",
    "hits",
    "infomax",
    "information_about_labels",
    "information_of_model",
    "joined",
    "local_proposal",
    "midpoint_about_labels",
    "paired_log_prob",
    "part_of",
    "posterior_normal",
    "regressed_mean",
    "sandwich",
    "training_bias",
    "wary_proposal",
    "weigh",
]
