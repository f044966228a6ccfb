"""Small nets to train, with constraints on one thing or the other."""

import torch
from torch import nn

from sklearn_mae.encoders import Amortised, GaussianEncoder
from sklearn_mae.families import Schedule
from sklearn_mae.families.lstm import (
    SequenceFilter,
    SequenceLikelihood,
    SequenceReader,
)
from sklearn_mae.gradients import Reparametrised
from sklearn_mae.model import LatentVariableModel, private_random
from sklearn_mae.training import Information, MutualAutoencoderNet, Paper, Rate
from sklearn_mae.training.penalty import DualAscent, SignRule
from tests.toy_models import generator, random_model, with_places


def table(n=50, D=3, seed=0):
    return torch.randn(n, D, generator=generator(seed), dtype=torch.float64)


def build(*constraints, rule=None, model=None, seed=5, **options):
    options = {"max_epochs": 3, "batch_size": 20, "lr": 1e-2, **options}
    net = MutualAutoencoderNet(
        random_model("gaussian", 3, 2) if model is None else model,
        rule=rule or Amortised(),
        generator=generator(seed),
        constraints=constraints,
        device="cpu",
        verbose=0,
        **options,
    )
    return net.initialize()


def two_sided(M=1.0, C=10.0, period=1, **options):
    """A constraint on the model's information that asks for M, by default each step."""
    penalty = DualAscent(C, M, period=period)
    return Information(penalty, Reparametrised(), Schedule(period=period, **options))


def paper(M=1.0, C=10.0):
    return Paper(SignRule(C, M), Reparametrised())


def rate(M=1.0, C=1.0):
    return Rate(DualAscent(C, M))


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def moved(before, model):
    """First parts of the names of the parameters that changed."""
    return {
        name.partition(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    }


def sequences(seed=0):
    """Model of rows of at most three words, whose code matters, and its outcomes."""

    def reader():
        return with_places(SequenceReader(5, 4, (3, 6), 4))

    with private_random(seed):
        likelihood = with_places(SequenceLikelihood(5, 4, (3, 6), 2))
        parts = likelihood, GaussianEncoder(reader()), SequenceFilter(reader())
    with torch.no_grad():
        likelihood.recurrent.layers[0].weight_ih_l0[:, 3:] *= 10
        likelihood.output.weight *= 8
    return LatentVariableModel(*parts, nn.Identity(), 2).double()


def drawn_rows(model, n=40):
    with torch.no_grad():
        return model.likelihood(table(n, 2)).sample((), generator())
