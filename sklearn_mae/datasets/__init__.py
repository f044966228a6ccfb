"""Data of known entropy, likelihood and information, and sentences of film reviews.

Notation: data x ~ q(x), latent code z ~ p(z), H(x) the entropy of q and I(x, z) the
mutual information of the joint distribution from which the data are drawn. All figures
are in nats.

Each ``make_*`` returns a :class:`~sklearn.utils.Bunch` with at least

- ``data``, of shape (n_samples, n_features), or a list of n_samples sentences;
- ``entropy``, H(x): no model has a lower expected negative log-likelihood;
- ``log_likelihood``, a function of X that gives log q(x) for each row, shape (n,);
  rows outside the support have ``-inf``;

and, where there is a latent variable, ``codes`` and ``information``. A Bunch can be
pickled. :func:`make_linear_gaussian` and :func:`make_binary_prototypes` draw q by the
seed: draw their training and test rows in one call.

:func:`fetch_imdb_sentences` loads sentences of film reviews, whose q(x) is unknown, by
the conventions of scikit-learn's ``fetch_*``.
"""

from sklearn_mae.datasets.generators import (
    make_binary_prototypes,
    make_linear_gaussian,
    make_split_normal,
    make_uniform_categories,
    split_normal_correlation,
)
from sklearn_mae.datasets.imdb import fetch_imdb_sentences
from sklearn_mae.datasets.sentences import make_sentences

__all__ = [
    "fetch_imdb_sentences",
    "make_binary_prototypes",
    "make_linear_gaussian",
    "make_sentences",
    "make_split_normal",
    "make_uniform_categories",
    "split_normal_correlation",
]
