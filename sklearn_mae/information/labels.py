"""What codes tell about a label: a bracket of I(z; y) that needs no adversary.

The encoder's density is known. Rows i with labels y_i that the encoder was *not*
trained on, and a draw z_i ~ q(.|x_i) of each, give

    N = log mean of q(z_i|x_j) over the rows j of i's class,     for log q(z_i|y_i)
    D = the same over all rows,                                  for log q(z_i).

With the row's own density in the mean the expectation is above, without it below
(Jensen). E log p(z) is below E log q(z), too. So

    I(z; y) >= N_out - D_in,
    I(z; y) <= N_in - D_out   and   <= N_in - E log p(z),

whatever an adversary may try. A classifier bounds it from below, H(y) and the rate from
above. Each bound is a mean over rows that serve as draws and as centres: its standard
error is that of a jackknife over rows in both roles, to first order, for which the
column sums of the densities' shares are enough. Ends lie 3 standard errors out, farther
by Bonferroni's rule over the bounds that are intersected.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from sklearn_mae.model import (
    LOG_SQRT_2PI,
    DiagonalNormal,
    LatentVariableModel,
    PrivateDistribution,
    draw,
)

__all__ = [
    "LabelInformation",
    "accuracy_cap",
    "encoded",
    "information_about_labels",
    "joined",
    "midpoint_about_labels",
    "paired_log_prob",
    "part_of",
]

# densities held at once, and rows encoded at once
PAIRED_AT_ONCE, ENCODED_AT_ONCE = 4_000_000, 4_096
# standard errors of an end
ENDS = 3.0
# components up to which the classifier sees products of two, ridge and steps of it
MOST_PRODUCTS, RIDGE, N_STEPS = 32, 1e-3, 200
# share of the classes' frequencies in what the classifier says
WARY = 0.01


@dataclass(frozen=True)
class LabelInformation:
    """Bracket of the information that draws of codes have about labels, in nats.

    Parameters
    ----------
    lower, upper, lower_se, upper_se : float
        The bounds that decide the ends, and their standard errors.
    low, high : float
        The ends, see the module.
    entropy, rate : float
        Plug-in H(y), and the mean rate of the codes.
    n_samples : int
        Rows.
    n_rarest : int
        Rows of the rarest class.
    accuracy_cap : float
        No adversary tells labels from one draw a row more often than this.
    """

    lower: float
    upper: float
    lower_se: float
    upper_se: float
    low: float
    high: float
    entropy: float
    rate: float
    n_samples: int
    n_rarest: int
    accuracy_cap: float

    @property
    def estimate(self) -> float:
        """Midpoint of the ends."""
        return 0.5 * (self.low + self.high)

    @property
    def sharp(self) -> bool:
        """Whether there are rows enough for a narrow bracket at such a rate."""
        return self.rate <= math.log(self.n_rarest) - 4

    def as_dict(self) -> dict:
        """Return what public methods report."""
        return {
            "estimate": self.estimate,
            "lower": self.lower,
            "upper": self.upper,
            "lower_se": self.lower_se,
            "upper_se": self.upper_se,
            "interval": (self.low, self.high),
            "entropy": self.entropy,
            "rate": self.rate,
            "accuracy_cap": self.accuracy_cap,
            "n_samples": self.n_samples,
            "sharp": self.sharp,
            "method": "densities",
        }


def part_of(q: Distribution, block: slice) -> Distribution:
    """Return the distribution of some components of codes.

    Raises
    ------
    ValueError
        If it is not that of independent normals, unless these are all components.
    """
    if block == slice(None):
        return q
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        q = DiagonalNormal(q.base_dist.loc, q.base_dist.scale.log())
    if not isinstance(q, DiagonalNormal):
        raise ValueError(
            "target='code' needs the distribution of each block of a code, and the "
            f"encoder gives a {type(q).__name__}. Let its module return independent "
            "normals, Independent(Normal(loc, scale), 1), or use encoder='gaussian'."
        )
    scales = q.log_scale.expand_as(q.loc)
    return DiagonalNormal(q.loc[..., block], scales[..., block])


@torch.no_grad()
def encoded(
    model: LatentVariableModel, take, index: Tensor, block: slice = slice(None)
) -> Distribution:
    """Return q(z|x) of many rows, those of ``take(index)``, a part at a time.

    ``block`` says of which components of the code.
    """
    parts = index.split(model.at_once(ENCODED_AT_ONCE))
    return joined([part_of(model.q(take(some)), block) for some in parts])


def joined(parts: list[Distribution]) -> Distribution:
    """Return the distributions of several blocks of rows as those of all rows."""
    if len(parts) == 1:
        return parts[0]
    normals = [q for q in parts if isinstance(q, DiagonalNormal)]
    if len(normals) < len(parts):
        return _Several(parts)
    scales = [q.log_scale.expand_as(q.loc) for q in normals]
    return DiagonalNormal(torch.cat([q.loc for q in normals]), torch.cat(scales))


class _Several(PrivateDistribution):
    """Distributions of a user's own, of several blocks of rows."""

    def __init__(self, parts: list[Distribution]):
        self.parts = parts
        n = sum(q.batch_shape[0] for q in parts)
        super().__init__(torch.Size([n]), parts[0].event_shape)

    def log_prob(self, value):
        """Log-densities, of codes that all rows share or of one for each row."""
        sizes = [q.batch_shape[0] for q in self.parts]
        if value.dim() > 2 and value.shape[-2] == 1:
            return torch.cat([q.log_prob(value) for q in self.parts], -1)
        pairs = zip(self.parts, value.split(sizes, -2), strict=True)
        return torch.cat([q.log_prob(some) for q, some in pairs], -1)

    def sample(self, sample_shape=(), generator=None):
        """Draw."""
        drawn = [draw(q, sample_shape, generator, False) for q in self.parts]
        return torch.cat(drawn, -2)


def paired_log_prob(q: Distribution, z: Tensor) -> Tensor:
    """Log q(z_i|x_j) of codes (m, d) under the distributions of n rows, (m, n)."""
    if not isinstance(q, DiagonalNormal):
        return q.log_prob(z.unsqueeze(1))
    # (a square is multiplied out: near the middle of all rows it rounds least)
    middle = q.loc.detach().mean(0)
    loc, z = q.loc - middle, z - middle
    precision = (-2 * q.log_scale).exp().expand_as(loc)
    weighted = loc * precision
    constant = (loc * weighted).sum(-1) + 2 * q.log_scale.expand_as(loc).sum(-1)
    squares = z.square() @ precision.mT - 2 * (z @ weighted.mT) + constant
    return -0.5 * squares - z.shape[-1] * LOG_SQRT_2PI


@dataclass
class _Densities:
    """Per-row terms of the bounds, and column sums of the shares in them."""

    class_in: Tensor
    class_out: Tensor
    all_in: Tensor
    all_out: Tensor
    class_in_sums: Tensor
    class_out_sums: Tensor
    all_in_sums: Tensor
    all_out_sums: Tensor


def _densities(q: Distribution, z: Tensor, labels: Tensor) -> _Densities:
    """Compare each draw with each row, some draws of a class at a time."""
    n = len(z)
    found = _Densities(*z.new_zeros(8, n).unbind(0))
    for label in labels.unique():
        rows = (labels == label).nonzero().squeeze(-1)
        m = len(rows)
        for some in rows.split(max(1, PAIRED_AT_ONCE // n)):
            log_q = paired_log_prob(q, z[some])
            place = torch.arange(len(some), device=z.device)
            own = log_q[place, some]
            log_q[place, some] = -math.inf
            of_class = log_q[:, rows]
            for name, part, columns, size in (
                ("all", log_q, slice(None), n),
                ("class", of_class, rows, m),
            ):
                out = torch.logsumexp(part, 1, keepdim=True)
                both = torch.logaddexp(out.squeeze(1), own)
                shares = (part - out).exp()
                getattr(found, f"{name}_out")[some] = out.squeeze(1) - math.log(
                    size - 1
                )
                getattr(found, f"{name}_in")[some] = both - math.log(size)
                getattr(found, f"{name}_out_sums")[columns] += shares.sum(0)
                kept = (out.squeeze(1) - both).exp()
                sums = getattr(found, f"{name}_in_sums")
                sums[columns] += kept @ shares
                sums[some] += (own - both).exp()
    return found


def _mean_and_se(terms: Tensor, sums: Tensor | float = 0.0) -> tuple[float, float]:
    """Mean of terms of rows, and its standard error; sums of shares have mean 1."""
    influence = terms + sums
    return float(terms.mean()), float(influence.std() / len(terms) ** 0.5)


@torch.no_grad()
def midpoint_about_labels(q: Distribution, z: Tensor, labels: Tensor) -> Tensor:
    """Estimate I(z; y) from few draws and many rows: the middle of both bounds.

    Parameters
    ----------
    q : Distribution
        Of batch shape (n,).
    z : Tensor of shape (m, d)
        Draws of the codes of the first m rows.
    labels : Tensor of shape (n,), int64
        Of all rows.
    """
    n, total = len(labels), z.new_zeros(())
    for start in range(0, len(z), max(1, PAIRED_AT_ONCE // n)):
        some = z[start : start + max(1, PAIRED_AT_ONCE // n)]
        log_q = paired_log_prob(q, some)
        place = torch.arange(len(some), device=z.device)
        own = log_q[place, start + place]
        log_q[place, start + place] = -math.inf
        same = labels[start : start + len(some), None] == labels
        size = same.sum(1)
        of_class = torch.logsumexp(log_q.masked_fill(~same, -math.inf), 1)
        of_all = torch.logsumexp(log_q, 1)
        middles = [
            torch.logaddexp(part, own) - count.log() + part - (count - 1).log()
            for part, count in (
                (of_class, size.to(z)),
                (of_all, z.new_full((len(some),), n)),
            )
        ]
        # (a class of one row has no others)
        terms = 0.5 * (middles[0] - middles[1])
        total = total + terms[size > 1].sum()
    return total / len(z)


@torch.no_grad()
def information_about_labels(
    q: Distribution,
    z: Tensor,
    labels: Tensor,
    log_prior: Tensor,
    rates: Tensor,
    log_classifier: Tensor | None = None,
) -> LabelInformation:
    """Bracket I(z; y) of codes drawn for labelled rows.

    Parameters
    ----------
    q : Distribution
        Of batch shape (n,): the encoder's, of rows that it was not trained on.
    z : Tensor of shape (n, d)
        One draw for each row.
    labels : Tensor of shape (n,), int64
        Classes, of which each has at least two rows.
    log_prior : Tensor of shape (n,)
        Log p(z) of the draws.
    rates : Tensor of shape (n,)
        KL(q(z|x) || p(z)) of the rows, or estimates of it.
    log_classifier : Tensor of shape (n,), optional
        Log c(y|z) of a classifier that knows nothing of these rows. None: one is
        fitted to each half of the rows, for the other half.

    Returns
    -------
    LabelInformation
        The bracket.
    """
    n = len(z)
    _, labels, counts = labels.unique(return_inverse=True, return_counts=True)
    shares = counts.to(z) / n
    found = _densities(q, z, labels)
    surprise = -shares.log()[labels]
    entropy, entropy_se = _mean_and_se(surprise)
    if log_classifier is None:
        log_classifier = _classified(z, labels, shares)
    lowers = [
        _mean_and_se(
            found.class_out - found.all_in, found.class_out_sums - found.all_in_sums
        ),
        _mean_and_se(surprise + log_classifier),
    ]
    uppers = [
        _mean_and_se(
            found.class_in - found.all_out, found.class_in_sums - found.all_out_sums
        ),
        _mean_and_se(found.class_in - log_prior, found.class_in_sums),
        (entropy + (len(counts) - 1) / (2 * n), entropy_se),
        _mean_and_se(rates),
    ]
    low, lower, lower_se = max(
        (mean - _ends(lowers) * se, mean, se) for mean, se in lowers
    )
    high, upper, upper_se = min(
        (mean + _ends(uppers) * se, mean, se) for mean, se in uppers
    )
    low, high = max(0.0, low), max(0.0, high)
    low, high = min(low, high), max(low, high)
    return LabelInformation(
        lower=max(0.0, lower),
        upper=max(0.0, upper),
        lower_se=lower_se,
        upper_se=upper_se,
        low=low,
        high=high,
        entropy=entropy,
        rate=float(rates.mean()),
        n_samples=n,
        n_rarest=int(counts.min()),
        accuracy_cap=accuracy_cap(shares.cpu().numpy(), high),
    )


def _ends(bounds: list) -> float:
    """Standard errors of an end where so many bounds are intersected."""
    return float(norm.isf(norm.sf(ENDS) / len(bounds)))


def _classified(z: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """Log c(y|z) of logistic regressions, each fitted to the other half of the rows.

    Rows of a class alternate between the halves, in the order in which they come.
    """
    if len(shares) == 1:
        return z.new_zeros(len(z))
    features = [z, z.square()]
    d = z.shape[-1]
    if d <= MOST_PRODUCTS:
        i, j = torch.triu_indices(d, d, 1, device=z.device)
        features.append(z[:, i] * z[:, j])
    seen = torch.cat(features, -1)
    seen = (seen - seen.mean(0)) / seen.std(0).clamp_min(1e-12)
    x = seen.cpu().numpy()
    y = labels.cpu().numpy()
    k, half = len(shares), np.empty(len(y), dtype=int)
    for label in range(k):
        rows = np.flatnonzero(y == label)
        half[rows] = np.arange(len(rows)) % 2
    of_own = np.empty(len(y))
    for part in (0, 1):
        there = half == part
        classifier = LogisticRegression(
            C=0.5 / (RIDGE * (~there).sum()), max_iter=N_STEPS
        )
        with warnings.catch_warnings():
            # a bound is valid wherever its classifier stopped
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(x[~there], y[~there])
        proba = classifier.predict_proba(x[there])
        # (each class has a row in either half)
        of_own[there] = proba[np.arange(there.sum()), y[there]]
    c = torch.as_tensor(of_own, dtype=z.dtype, device=z.device)
    return ((1 - WARY) * c + WARY * shares[labels]).log()


def accuracy_cap(shares: np.ndarray, information: float) -> float:
    """Return the highest accuracy with which a label can be told from so many nats.

    Fano's inequality, sharp for these class frequencies: the guess g has I(g; y) at
    most that of what it is made from. For each slope s > 0

        accuracy <= (I + max over r of sum_y p_y log(1 + r_y (e^s - 1))) / s,

    r the distribution of the guesses; the smallest of these is taken.

    Parameters
    ----------
    shares : ndarray of shape (k,)
        Class frequencies.
    information : float
        I(z; y), in nats, or an upper bound on it.

    Returns
    -------
    float
        At least the largest frequency, and at most 1.
    """
    p = np.sort(shares[shares > 0])[::-1]
    sums, sizes = np.cumsum(p), np.arange(1, len(p) + 1)
    best = 1.0
    for s in np.geomspace(1e-3, 60, 400):
        gain = math.expm1(s)
        # guesses r_y = max(0, p_y / level - 1 / gain): the m largest classes have some
        level = sums / (1 + sizes / gain)
        m = int(np.flatnonzero(p / level > 1 / gain)[-1]) + 1
        r = p[:m] / level[m - 1] - 1 / gain
        best = min(best, (information + p[:m] @ np.log1p(r * gain)) / s)
    return float(max(best, p[0]))
