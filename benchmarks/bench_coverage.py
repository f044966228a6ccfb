"""The certificate against the truth, over hundreds of random models.

    python benchmarks/bench_coverage.py [--family linear nonlinear hostile] [--n 200]

Is the truth inside [lower - 2 se, upper + 2 se], and is that interval no wider than
max(0.1, 5 % of the truth)?

Families, each model drawn from its seed alone:

- ``linear``: x = W z + noise, 1 to 64 latents, 0.1 to 40 nats (at most 15 a latent),
  several spectra, a posterior that no diagonal Gaussian equals. The truth is a
  determinant.
- ``nonlinear``: 1 or 2 latents and an absolute value, a random network, a mixture or
  categories, so that posteriors have several modes. The truth is H(x) - H(x|z) on
  grids over z and x, refined until two agree. Route ``sandwich`` calls that method
  directly; route ``public`` takes the method that ``mutual_info`` chooses, here a grid
  or a sum.
- ``hostile``: 1 to 4 latents and decoders that oscillate, jump or have many modes
  (``hostile_models.py``). The truth is a sum of one-dimensional integrals.
- ``hidden``: ``linear`` with 8 to 16 latents and 2 to 20 nats, as a ``UserLikelihood``:
  the certificate has no other proposal than r_omega.

r_omega is the best diagonal Gaussian or trained on draws of the model (``fitted``), or
that with its means 10 to 30 % off and its scales off by factors (``perturbed``). One
torch thread. Rows that the CSV has are not run again; ``--table`` only summarises it.
"""

import math
import time
from collections import defaultdict

import numpy as np
import torch
from hostile_models import hostile, log_uniform
from rows import Results, parser
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from sklearn_mae.encoders import Posterior
from sklearn_mae.families.standard import (
    set_scale,
    standard_columns,
    standard_likelihood,
    standard_model,
)
from sklearn_mae.families.table import TableLikelihood
from sklearn_mae.families.user import UserLikelihood
from sklearn_mae.information import infomax, information_of_model
from sklearn_mae.information.certificate import Sandwich
from sklearn_mae.model import draw, mlp, private_random

FIELDS = (
    "family seed kind r route d D information lower upper lower_se upper_se width "
    "method n_samples n_proposals n_temperatures n_codes covered narrow seconds"
).split()
# a family's index is part of its models' seeds
FAMILIES = ("linear", "nonlinear", "hidden", "hostile")
BUDGET = 2_000_000
# error of a grid, in nats: of the truth, and of the certificate beside its se
AGREEMENT = 1e-4


# Linear models: I = 1/2 log det(I + W'W) in units of the noise


def spectrum(rng, d, information):
    """Return squared singular values of W, of a random shape, with that information."""
    i = np.arange(d)
    shapes = {
        "flat": np.ones(d),
        "geometric": rng.uniform(0.3, 0.95) ** i,
        "power": 1 / (1 + i) ** rng.uniform(0.5, 2),
        "random": np.exp(rng.normal(scale=1.5, size=d)),
        "spike": np.where(i == 0, 100.0, 1.0),
    }
    kind = str(rng.choice(list(shapes)))
    low, high = -100.0, 100.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        found = 0.5 * np.log1p(np.exp(middle) * shapes[kind]).sum()
        low, high = (middle, high) if found < information else (low, middle)
    return kind, np.exp(low) * shapes[kind]


def linear(rng, perturbed, hidden):
    """Draw a linear-Gaussian model; its posterior is a rotated Gaussian."""
    d = round(log_uniform(rng, *((8, 16.4) if hidden else (0.51, 64.4))))
    # beyond 15 nats a latent, rounding to doubles exceeds the noise
    most = min(40, 15 * d)
    information = log_uniform(rng, *((2, 20) if hidden else (0.1, most)))
    D = round(d * log_uniform(rng, 1, 4))
    kind, squares = spectrum(rng, d, information)
    rotations = [np.linalg.qr(rng.normal(size=(n, d)))[0] for n in (D, d)]
    noise = np.exp(rng.normal(scale=0.5, size=D))
    W = noise[:, None] * (rotations[0] * np.sqrt(squares)) @ rotations[1].T
    b = rng.normal(size=D)
    covariance = np.linalg.inv(np.eye(d) + W.T @ (W / noise[:, None] ** 2))
    gain = covariance @ (W / noise[:, None] ** 2).T
    # the diagonal Gaussian to which r_omega's training converges
    scale = np.sqrt(np.diag(covariance))
    if perturbed:
        gain = gain * (1 + rng.uniform(0.1, 0.3) * rng.normal(size=gain.shape))
        scale = scale * np.exp(rng.normal(scale=0.4, size=d))
    gaussian = standard_likelihood("gaussian", nn.Linear(d, D), D, min_scale=1e-6)
    r = Posterior(nn.Linear(D, 2 * d))
    values = {
        gaussian.decoder.weight: W,
        gaussian.decoder.bias: b,
        r.network.weight: np.concatenate([gain, np.zeros_like(gain)]),
        r.network.bias: np.concatenate([-gain @ b, np.log(scale)]),
    }
    likelihood = UserLikelihood(UserModule(gaussian), D) if hidden else gaussian
    model = standard_model(likelihood, D, d, encoder=r, posterior=r).double()
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(torch.as_tensor(value))
    set_scale(gaussian, noise)
    return kind, D, model, float(0.5 * np.log1p(squares).sum())


class UserModule(nn.Module):
    """A Gaussian likelihood as a user's module."""

    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def forward(self, z):
        p = self.likelihood(z)
        scale = p.log_scale.exp().expand_as(p.loc)
        return Normal(p.loc, scale, validate_args=False)


# Non-Gaussian posteriors over one or two latents


class Absolute(nn.Module):
    """A decoder of |z|."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, z):
        return self.decoder(z.abs())


class TwoNormals(nn.Module):
    """A mixture of two normals, each with a mean of its own."""

    def __init__(self, decoder, weight, scale):
        super().__init__()
        self.decoder, self.weight, self.scale = decoder, weight, scale

    def forward(self, z):
        loc = self.decoder(z).unsqueeze(-2).unflatten(-1, (1, 2))
        weights = torch.tensor([self.weight, 1 - self.weight]).to(z)
        weights = Categorical(weights.expand(*loc.shape[:-1], 2)[..., 0, :, :])
        components = Normal(loc[..., 0, :, :], self.scale, validate_args=False)
        return MixtureSameFamily(weights, components, validate_args=False)


def nonlinear(rng, perturbed):
    """Draw a model whose posteriors are not Gaussian; compute its information."""
    kind = str(
        rng.choice(["abs", "network", "heteroscedastic", "mixture", "categories"])
    )
    d, D = (int(n) for n in rng.integers(1, 3, size=2))
    seed = int(rng.integers(2**31))
    noise = log_uniform(rng, 0.03 if d == 1 else 0.15, 1)
    features = None
    cardinalities = tuple(rng.integers(3, 9, size=rng.integers(1, 4)).tolist())
    with private_random(seed):
        if kind == "mixture":
            D = 1
            decoder = _decoder(rng, d, 2)
            weight = rng.uniform(0.2, 0.8)
            likelihood = UserLikelihood(TwoNormals(decoder, weight, noise), 1)
        elif kind == "categories":
            D = len(cardinalities)
            categories = standard_columns("categorical", cardinalities)
            features = categories.features()
            decoder = _decoder(rng, d, sum(cardinalities), 1 / noise)
            if rng.random() < 0.5:
                decoder = Absolute(decoder)
            likelihood = TableLikelihood(categories, decoder)
        else:
            varies = kind == "heteroscedastic"
            name = kind if varies else "gaussian"
            decoder = _decoder(rng, d, D * (1 + varies))
            if varies:
                with torch.no_grad():  # log-scales that differ a little
                    decoder[-1].weight[D:] *= 0.15
                    decoder[-1].bias[D:] = -1.0
            if kind == "abs" or (varies and rng.random() < 0.5):
                decoder = Absolute(decoder)
            likelihood = standard_likelihood(name, decoder, D, min_scale=noise)
            if not varies:  # the scale is the floor
                likelihood.raw_log_scale.data.fill_(-20.0)
        n_inputs = sum(cardinalities) if kind == "categories" else D
        r = Posterior.from_sizes(n_inputs, (32, 32), d, "silu")
    networks = {"features": features, "encoder": r, "posterior": r}
    model = standard_model(likelihood, n_inputs, d, **networks).double()
    for parameter in likelihood.parameters():
        parameter.requires_grad_(False)
    fit_posterior(model, rng, seed, perturbed)
    return kind, D, model, truth_on_grid(model, kind, D)


def fit_posterior(model, rng, seed, perturbed):
    """Train r_omega on draws of the model, then perturb it if wanted."""
    train_posterior(model, torch.Generator().manual_seed(seed))
    if perturbed:
        d = model.n_components
        with torch.no_grad(), private_random(seed):
            last = model.posterior.network[-1]
            error = rng.uniform(0.1, 0.3) * torch.randn(d, len(last.weight[0]))
            last.weight[:d] *= 1 + error
            last.bias[d:] += 0.4 * torch.randn(d)


def _decoder(rng, d, n_outputs, sharpness=1.0):
    """Build a random network that gives some x from several codes."""
    decoder = mlp(d, (16,), n_outputs, "tanh")
    with torch.no_grad():
        decoder[0].weight.mul_(log_uniform(rng, 1, 4))
        decoder[0].bias.mul_(2)
        decoder[-1].weight.mul_(4 * sharpness)
    return decoder


def train_posterior(model, generator, n_steps=400, batch=256):
    """Maximise E log r_omega(z|x) on draws of the model."""
    optimizer = torch.optim.Adam(model.posterior.parameters(), lr=1e-2)
    for step in range(n_steps):
        with torch.no_grad():
            z0 = model.stratified_codes(batch, generator)
            x = draw(model.likelihood(z0), (), generator, reparametrised=False)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / n_steps)
        optimizer.zero_grad()
        (-infomax(model.r(x), z0, model.prior).mean()).backward()
        optimizer.step()


@torch.no_grad()
def truth_on_grid(model, kind, D):
    """Return H(x) - H(x|z) by sums over z and x, on grids refined until two agree.

    At a kink, as of |z|, the error falls with the square of the grid's step, so that
    the sums are extrapolated.
    """
    d = model.n_components
    plain, before, n = math.inf, math.inf, 1_001 if d == 1 else 257
    while n**d <= 5_000_000:
        axis = torch.linspace(-7, 7, n, dtype=torch.float64)
        z = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
        mass = torch.softmax(-0.5 * z.square().sum(-1), 0)
        if kind == "categories":
            now = _of_categories(model, z, mass)
        else:
            now = _of_columns(model, z, mass, D, kind)
        extrapolated = now + (now - plain) / 3
        if abs(extrapolated - before) < AGREEMENT:
            return extrapolated
        plain, before, n = now, extrapolated, 2 * n - 1
    raise RuntimeError(f"no grid over z is fine enough: {plain}, {before}")


def _of_categories(model, z, mass):
    outcomes = model.likelihood.outcomes().unsqueeze(1)
    p_x, negentropy = 0.0, 0.0
    for part, m in zip(z.split(4_096), mass.split(4_096), strict=True):
        log_p = model.likelihood(part).log_prob(outcomes)
        p_x = p_x + log_p.exp() @ m
        negentropy += float((log_p.exp() * log_p).sum(0) @ m)
    return negentropy - float((p_x * p_x.log()).sum())


def _of_columns(model, z, mass, D, kind):
    """Of columns that are independent given z: p(x) on a grid is a matrix product."""
    if kind == "mixture":
        module = model.likelihood.module
        loc = module.decoder(z)  # of the two normals
        scale = torch.full_like(loc, module.scale)
    else:
        p = model.likelihood(z)
        loc, scale = p.loc, p.log_scale.exp().expand_as(p.loc)
    low = float((loc - 7 * scale).min())
    high = float((loc + 7 * scale).max())
    # sums over equal steps are exact up to exp(-2 pi^2 / step^2), in units of the noise
    n = math.ceil((high - low) / (0.9 * float(scale.min())))
    x = torch.linspace(low, high, n, dtype=torch.float64)
    step = (x[1] - x[0]).item()
    p_x, entropy = 0.0, 0.0
    parts = (4_096 if n < 4_000 else 512,)
    for m, at, s in zip(*(t.split(*parts) for t in (mass, loc, scale)), strict=True):
        columns = Normal(at.T[..., None], s.T[..., None], validate_args=False)
        p = columns.log_prob(x).exp()  # (columns or normals of the mixture, z, x)
        if kind == "mixture":
            weight = model.likelihood.module.weight
            p = weight * p[0] + (1 - weight) * p[1]
            p_x = p_x + m @ p
            entropy -= float(m @ torch.special.xlogy(p, p).sum(1)) * step
            continue
        p_x = p_x + (m @ p[0] if D == 1 else (m[:, None] * p[0]).T @ p[1])
        normal = 0.5 * math.log(2 * math.pi * math.e)
        entropy += float(m @ (s.log() + normal).sum(-1))
    return -float(torch.special.xlogy(p_x, p_x).sum()) * step**D - entropy


# One model, its rows


def run(family: str, seed: int, routes: list[str]):
    """Yield one model's rows, one for each route."""
    rng = np.random.default_rng([FAMILIES.index(family), seed])
    perturbed = seed % 2 == 1
    if family == "nonlinear":
        kind, D, model, truth = nonlinear(rng, perturbed)
    elif family == "hostile":
        kind, D, model, truth = hostile(rng)
        fit_posterior(model, rng, seed, perturbed)
    else:
        kind, D, model, truth = linear(rng, perturbed, family == "hidden")
    allowed = max(0.1, 0.05 * truth)
    for route in routes:
        # draws that are independent of the training's
        generator = torch.Generator().manual_seed(1_000_000 + seed)
        start = time.perf_counter()
        if route == "sandwich":
            found = Sandwich(2_000, allowed, BUDGET).bracket(model, generator)
        else:
            found = information_of_model(model, 2_000, allowed, generator, BUDGET)
        seconds = time.perf_counter() - start
        low, high = found.interval
        ends = ("lower", "upper", "lower_se", "upper_se")
        effort = ("n_samples", "n_proposals", "n_temperatures", "n_codes")
        yield {
            "family": family,
            "seed": seed,
            "kind": kind,
            "r": "perturbed" if perturbed else "fitted",
            "route": route,
            "d": model.n_components,
            "D": D,
            "information": f"{truth:.5f}",
            **{name: f"{getattr(found, name):.5f}" for name in ends},
            "width": f"{high - low:.5f}",
            "method": found.method,
            **{name: found.took.get(name, "") for name in effort},
            "covered": int(low - AGREEMENT <= truth <= high + AGREEMENT),
            "narrow": int(high - low <= allowed),
            "seconds": f"{seconds:.2f}",
        }


def table(rows: list[dict]) -> None:
    """Print one line for each family and route."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["family"], row["route"], "all"].append(row)
        groups[row["family"], row["route"], row["r"]].append(row)
        if row["family"] in ("nonlinear", "hostile"):
            groups[row["family"], row["route"], row["kind"]].append(row)
        if row["family"] == "hostile":
            groups[row["family"], row["route"], f"d = {row['d']}"].append(row)
    head = "family | route | which | covered | off by > 5 widths | narrow | "
    print(f"| {head}median width | largest | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (family, route, which), group in sorted(groups.items()):
        n = len(group)
        covered, narrow = (
            sum(int(row[name]) for row in group) for name in ("covered", "narrow")
        )
        widths, seconds = (
            [float(row[name]) for row in group] for name in ("width", "seconds")
        )
        far = sum(far_off(row) for row in group)
        print(
            f"| {family} | {route} | {which} | {covered} of {n} | {far} | "
            f"{narrow / n:.1%} | {np.median(widths):.3f} | {max(widths):.3f} | "
            f"{np.median(seconds):.1f} |"
        )


def far_off(row: dict) -> bool:
    """Whether the truth is outside by more than five widths, of at least 0.01."""
    truth, low, high, low_se, high_se, width = (
        float(row[name])
        for name in "information lower upper lower_se upper_se width".split()
    )
    distance = max(low - 2 * low_se - truth, truth - high - 2 * high_se)
    return not distance <= 5 * max(width, 0.01)


def main():
    """Run what is missing and print the table."""
    options = parser(__doc__, "coverage.csv")
    options.add_argument("--family", nargs="+", default=list(FAMILIES[:2]))
    options.add_argument("--n", type=int, default=200, help="models of each family")
    options.add_argument("--seed", type=int, default=0, help="the first model's")
    options.add_argument("--route", nargs="+", default=["sandwich", "public"])
    arguments = options.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.out, FIELDS, complete=arguments.table)
    for family in arguments.family:
        routes = arguments.route if family == "nonlinear" else ["public"]
        for seed in range(arguments.seed, arguments.seed + arguments.n):
            cases = ({"family": family, "seed": seed, "route": r} for r in routes)
            missing = [case["route"] for case in results.missing(cases)]
            for row in run(family, seed, missing) if missing else ():
                results.add(row)
    table(results.rows)


if __name__ == "__main__":
    main()
