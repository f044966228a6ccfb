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


# of tests that are about other things than what a fit reached
QUICK = {
    "test_callbacks",
    "test_common",
    "test_counts",
    "test_estimator_input",
    "test_faults",
    "test_plotting",
    "test_saving",
    "test_threads",
}


@pytest.fixture(autouse=True)
def _quick_end_of_fits(request, monkeypatch):
    """Let short fits land and certify by a fifth of the draws."""
    module = getattr(request, "module", None)  # a docstring's examples have none
    if module is not None and module.__name__.rpartition(".")[2] in QUICK:
        from sklearn_mae.training import MutualAutoencoderNet, certification

        monkeypatch.setattr(certification, "DRAWS_OF_SHORT", 100)
        monkeypatch.setattr(certification, "FEWEST_DECODES", 6_000)
        monkeypatch.setattr(MutualAutoencoderNet, "n_calibrations", 3)
