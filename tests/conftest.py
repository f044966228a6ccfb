"""Settings that must stand before scipy and scikit-learn are imported; fixtures."""

import os

# scikit-learn skips its array API check without it
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import pytest


@pytest.fixture(scope="session")
def small():
    """Return a factory of estimators that fit in a moment."""
    from sklearn_mae import MutualAutoencoder

    def build(**params):
        settings = {"max_epochs": 3, "hidden_layer_sizes": (16,), "random_state": 0}
        return MutualAutoencoder(**{**settings, **params})

    return build


# Modules whose tests are about other things than what a fit reached.
QUICK = {
    "test_callbacks",
    "test_code_target",
    "test_common",
    "test_counts",
    "test_estimator",
    "test_estimator_input",
    "test_estimator_text",
    "test_estimator_training",
    "test_faults",
    "test_plotting",
    "test_saving",
    "test_scoring",
    "test_targets",
    "test_threads",
}


def end_at_once(patch):
    """Let fits end by a rough bracket: the end of a tiny fit costs most of it.

    The bias of the bounds is not measured, r_omega is trained no further, and I is not
    landed on M. A few draws certify, whatever the model: no grid, no sum over outcomes.
    """
    import torch

    from sklearn_mae.estimator import fitting
    from sklearn_mae.information import estimate_sandwich
    from sklearn_mae.training import constraints

    def certify(net, seed):
        model = net.module_.eval()
        generator = torch.Generator(model.reference.device).manual_seed(seed)
        return estimate_sandwich(model, 25, 4, generator)

    patch.setattr(constraints, "training_bias", lambda *given: (0.01, 0.01))
    patch.setattr(fitting, "settle", lambda *given: None)
    patch.setattr(fitting, "certify", certify)


@pytest.fixture(autouse=True, scope="module")
def _quick_fits(request):
    module = getattr(request, "module", None)  # a docstring's examples have none
    with pytest.MonkeyPatch.context() as patch:
        if module is not None and module.__name__.rpartition(".")[2] in QUICK:
            end_at_once(patch)
        yield patch


@pytest.fixture
def whole_fits(_quick_fits):
    """Let a test of a quick module fit as users do: it is about the end of a fit."""
    _quick_fits.undo()
    yield
    end_at_once(_quick_fits)
