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
