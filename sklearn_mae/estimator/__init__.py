"""``MutualAutoencoder``: scikit-learn's contract around the torch core."""

from sklearn_mae.estimator.mutual_autoencoder import MutualAutoencoder

__all__ = ["MutualAutoencoder"]
