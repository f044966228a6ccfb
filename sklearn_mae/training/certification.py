"""The end of a fit: r_omega trained on, I landed on M, and its bracket made."""

import copy
import math

from sklearn_mae.information import Bracket, hits, information_of_model
from sklearn_mae.training.constraints import Information
from sklearn_mae.training.landing import land, refine_posterior
from sklearn_mae.training.net import MutualAutoencoderNet
from sklearn_mae.training.progress import ProgressBar

__all__ = ["certify", "near_enough", "settle"]

# steps that r_omega is trained on for, where I is held and where it is only measured
HELD, MEASURED = 200, 2_000
# a fit of fewer steps is a first look: so many joint draws are enough for it
SHORT, DRAWS_OF_SHORT = 500, 500
# proposals that landing measures with; fewer where decoding is dear
PROPOSALS, FEW_PROPOSALS = 128, 64
# width of the bracket, in nats and as a part of M, and decodes for each step of the fit
# that it is worth
WIDTH, RELATIVE_WIDTH = 0.05, 0.015
DECODES_PER_STEP, FEWEST_DECODES = 500, 32_000
# rows times points times columns of a grid; where the posteriors are too narrow for
# that, random codes take a tenth of the time
AFFORDABLE = 1.5e8
# by how much a second bracket's width and decodes differ, where the first one does not
# decide
FINER = 4
# how far I(x, z) may be from M, in nats and as a part of M
TOLERANCE, RELATIVE_TOLERANCE = 0.05, 0.02


def settle(net: MutualAutoencoderNet, seed: int, progress: ProgressBar) -> None:
    """Train r_omega to the end of its strength, then bring I onto M.

    Parameters
    ----------
    net : MutualAutoencoderNet
        Trained, not yet released.
    seed : int
        Of landing's measurements, another than the certificate's.
    progress : ProgressBar
        Shows what is going on.
    """
    model = net.module_
    cost, n_steps = model.likelihood.cost, net.step_
    progress.stage("r_omega")
    longest = HELD if any(c.holds_M for c in net.constraints) else MEASURED
    refine_posterior(net, min(n_steps, round(cost.refinement * longest)))
    progress.stage("landing")
    exact = copy.deepcopy(model).double().eval()
    n_proposals = PROPOSALS if cost.many_codes else FEW_PROPOSALS

    def measure():
        exact.load_state_dict(model.state_dict())
        found = information_of_model(
            exact,
            _n_samples(net),
            math.inf,
            model.generator(seed),
            budget=0,
            n_proposals=n_proposals,
            single=True,
            affordable=AFFORDABLE,
        )
        vague = found.upper - found.lower > Information.widest_gap
        se = max(found.lower_se, found.upper_se)
        return math.nan if vague else found.estimate, se

    for constraint in net.constraints:
        if isinstance(constraint, Information):
            land(net, constraint, measure)


def near_enough(M: float) -> float:
    """How far from M the information may be that counts as M, in nats."""
    return max(TOLERANCE, RELATIVE_TOLERANCE * M)


def certify(net: MutualAutoencoderNet, seed: int) -> Bracket:
    """Bracket I(x, z) of a trained model by draws that training knows nothing of.

    Where it does not decide whether I is near enough to M, another follows: of draws of
    its own, with four times the decodes, for a quarter of the width. The narrower one
    is returned. A choice of two misses the truth at most twice as often as one.
    """
    exact = copy.deepcopy(net.module_).double().eval()
    decodes = max(FEWEST_DECODES, DECODES_PER_STEP * net.step_)
    budget = min(exact.likelihood.cost.fit_budget, decodes)
    generator = net.module_.generator(seed)

    def bracket(width, budget):
        n_samples = _n_samples(net)
        return information_of_model(
            exact,
            n_samples,
            width,
            generator,
            budget,
            single=True,
            affordable=AFFORDABLE,
        )

    targets = [c.penalty.M for c in net.constraints if c.holds_M]
    if not targets:
        return bracket(WIDTH, budget)
    M = targets[0]
    width = max(WIDTH, RELATIVE_WIDTH * M)
    found = bracket(width, budget)
    decided = hits(found.interval, M, near_enough(M)) is not None
    if decided or math.isnan(found.width):
        return found
    finer = bracket(width / FINER, FINER * budget)
    return finer if finer.width < found.width else found


def _n_samples(net: MutualAutoencoderNet) -> int:
    most = net.module_.likelihood.cost.fit_samples
    return min(DRAWS_OF_SHORT, most) if net.step_ < SHORT else most
