"""Representations whose information you choose: the mutual autoencoder."""

from sklearn_mae.estimator import MutualAutoencoder

__version__ = "0.1.0"

__all__ = ["MutualAutoencoder"]
