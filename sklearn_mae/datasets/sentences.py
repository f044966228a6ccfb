"""Sentences from a probabilistic grammar whose entropy is known.

The grammar is unambiguous: every sentence has one derivation. So log q(x) is the sum of
the log-probabilities of its choices, and H(x) the expected sum of their entropies.
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from itertools import accumulate, product
from math import log, prod
from numbers import Integral

import numpy as np
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import validate_params

from sklearn_mae.parameters import Number

__all__ = ["make_sentences"]

_POSITIVE_INT = [Number(Integral, 1, None, closed="left")]

# Derivations are unique because no word is in two classes; an "s" turns a noun or verb
# into its other number. No word has a single letter, because the token_pattern of
# CountVectorizer would drop it.
_ADJECTIVES = (
    "old young famous quiet clever lonely happy angry "
    "brave gentle proud nervous lucky modest strange tired"
).split()
_ADVERBS = (
    "often quietly again today slowly alone tonight politely "
    "sometimes outside badly together calmly nearby upstairs forever"
).split()
_INTRANSITIVE_VERBS = (
    "laugh wait sleep smile sing travel listen wander "
    "return arrive speak dream work hesitate tremble pause"
).split()
_NOUNS = (
    "actor critic director writer hunter villain singer dancer "
    "painter farmer doctor sailor soldier teacher driver lawyer"
).split()
_TRANSITIVE_VERBS = (
    "admire follow remember help forget trust visit hear "
    "greet praise blame defend invite ignore interview thank"
).split()

_MAX_WORDS = len(_NOUNS)
_MAX_ENUMERATED = 100_000  # sentences

# The expansions of each symbol and their probabilities. An expansion is symbols
# separated by spaces. A symbol without an entry is a word.
Grammar = dict[str, dict[str, float]]


def _zipf_probabilities(words: Iterable[str]) -> dict[str, float]:
    """Give the words probabilities in proportion to 1, 1/2, 1/3, ..."""
    weights = {word: 1 / rank for rank, word in enumerate(words, start=1)}
    total = sum(weights.values())
    return {word: weight / total for word, weight in weights.items()}


def _grammar(n_words: int) -> Grammar:
    adjectives, adverbs, intransitive, nouns, transitive = (
        words[:n_words]
        for words in (
            _ADJECTIVES,
            _ADVERBS,
            _INTRANSITIVE_VERBS,
            _NOUNS,
            _TRANSITIVE_VERBS,
        )
    )
    grammar: Grammar = {
        "SENTENCE": {
            "NOUN_PHRASE_1 VERB_PHRASE_1": 0.6,
            "NOUN_PHRASE_2 VERB_PHRASE_2": 0.4,
        },
        "OBJECT": {"NOUN_PHRASE_1": 0.6, "NOUN_PHRASE_2": 0.4},
        "ADJECTIVE": _zipf_probabilities(adjectives),
        "ADVERB": _zipf_probabilities(adverbs),
        "DETERMINER_1": {"the": 0.6, "this": 0.4},
        "DETERMINER_2": {"the": 0.6, "these": 0.4},
        "COPULA_1": {"is": 1.0},
        "COPULA_2": {"are": 1.0},
        "NOUN_1": _zipf_probabilities(nouns),
        "NOUN_2": _zipf_probabilities(noun + "s" for noun in nouns),
        "INTRANSITIVE_1": _zipf_probabilities(verb + "s" for verb in intransitive),
        "INTRANSITIVE_2": _zipf_probabilities(intransitive),
        "TRANSITIVE_1": _zipf_probabilities(verb + "s" for verb in transitive),
        "TRANSITIVE_2": _zipf_probabilities(transitive),
    }
    for number in (1, 2):  # singular, plural
        grammar[f"NOUN_PHRASE_{number}"] = {
            f"DETERMINER_{number} NOUN_{number}": 0.7,
            f"DETERMINER_{number} ADJECTIVE NOUN_{number}": 0.3,
        }
        grammar[f"VERB_PHRASE_{number}"] = {
            f"INTRANSITIVE_{number}": 0.18,
            f"INTRANSITIVE_{number} ADVERB": 0.12,
            f"TRANSITIVE_{number} OBJECT": 0.5,
            f"COPULA_{number} ADJECTIVE": 0.2,
        }
    return grammar


def _count_texts(symbol: str, grammar: Grammar) -> int:
    """Count the texts that a symbol may expand to."""
    if symbol not in grammar:
        return 1
    return sum(
        prod(_count_texts(part, grammar) for part in expansion.split())
        for expansion in grammar[symbol]
    )


def _entropy(symbol: str, grammar: Grammar) -> float:
    """Entropy of the text that a symbol expands to."""
    if symbol not in grammar:
        return 0.0
    return sum(
        probability
        * (
            sum(_entropy(part, grammar) for part in expansion.split())
            - log(probability)
        )
        for expansion, probability in grammar[symbol].items()
    )


def _enumerate_texts(symbol: str, grammar: Grammar) -> dict[str, float]:
    """Return the texts that a symbol may expand to, with their probabilities."""
    if symbol not in grammar:
        return {symbol: 1.0}
    texts = {}
    for expansion, probability in grammar[symbol].items():
        parts = [_enumerate_texts(part, grammar).items() for part in expansion.split()]
        for choices in product(*parts):
            words, probabilities = zip(*choices, strict=True)
            texts[" ".join(words)] = probability * prod(probabilities)
    return texts


def _draw_text(symbol: str, grammar: Grammar, rng: np.random.RandomState) -> str:
    """Draw a text that a symbol expands to."""
    if symbol not in grammar:
        return symbol
    expansions = list(grammar[symbol])
    cumulative = list(accumulate(grammar[symbol].values()))
    # by rounding the last one may be less than 1
    choice = bisect(cumulative, rng.random_sample(), hi=len(expansions) - 1)
    return " ".join(
        _draw_text(part, grammar, rng) for part in expansions[choice].split()
    )


def _prefix_probabilities(
    symbol: str, words: list[str], grammar: Grammar
) -> dict[int, float]:
    """Probabilities that a symbol expands to the first n words, by n."""
    if symbol not in grammar:
        return {1: 1.0} if words[:1] == [symbol] else {}
    total: dict[int, float] = defaultdict(float)
    for expansion, probability in grammar[symbol].items():
        prefixes = {0: probability}
        for part in expansion.split():
            longer: dict[int, float] = defaultdict(float)
            for n, p in prefixes.items():
                for m, q in _prefix_probabilities(part, words[n:], grammar).items():
                    longer[n + m] += p * q
            prefixes = longer
        for n, p in prefixes.items():
            total[n] += p
    return total


def _sentences_log_likelihood(texts: Iterable[str], *, grammar: Grammar) -> np.ndarray:
    if isinstance(texts, str):
        raise ValueError(
            f"texts must be a sequence of strings. Got the string {texts!r} instead: "
            "put it into a list."
        )
    log_q = []
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(
                f"texts must hold nothing but strings. Got {text!r}, of type "
                f"{type(text).__name__}: convert it with str or leave it out."
            )
        words = text.split(" ")
        q = _prefix_probabilities("SENTENCE", words, grammar).get(len(words), 0.0)
        log_q.append(log(q) if q > 0 else -np.inf)
    return np.array(log_q, dtype=float)


@validate_params(
    {
        "n_samples": _POSITIVE_INT,
        "n_words": [Number(Integral, 1, _MAX_WORDS, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_sentences(
    n_samples: int = 2000,
    *,
    n_words: int = 4,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw English-like sentences from a grammar, of 3 to 7 words.

    A sentence is a subject, singular or plural, and a verb of the same number, with or
    without an adverb or an object; or a subject, a form of "be" and an adjective. Each
    noun has a determiner and may have an adjective. Words of one class have
    probabilities in proportion to 1, 1/2, 1/3, ... The sentences are in lower case,
    with single spaces between words and without punctuation.

    q(x) depends on ``n_words`` alone, not on the seed, so that training and test rows
    may be drawn by separate calls:

    =======  ==========  =================  =============
    n_words  vocabulary  sentences          entropy, nats
    =======  ==========  =================  =============
    1        13          88                 4.17
    2        21          1,344              6.12
    4        37          27,520             7.98
    8        69          686,592            9.74
    16       133         19,253,248         11.41
    =======  ==========  =================  =============

    Parameters
    ----------
    n_samples : int, default=2000
        Number of sentences.
    n_words : int, default=4
        Number of nouns, of adjectives, of adverbs, and of verbs with and without an
        object, from 1 to 16. Nouns and verbs have two forms each.
    random_state : int, RandomState instance or None, default=None
        Source of the draws; an int makes them reproducible.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : list of str
            Independent draws.
        entropy : float
            H(x), in nats.
        log_likelihood : callable
            log q(x) of each string of a sequence, ndarray of shape (n,).
        vocabulary : list of str
            All words, sorted.
        n_sentences : int
            Number of different sentences.
        sentences : list of str or None
            All of them; None if there are more than 100,000.
        probabilities : ndarray of shape (n_sentences,) or None
            q(x) of each of ``sentences``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> from sklearn_mae.datasets import make_sentences
    >>> bunch = make_sentences(500, random_state=0)
    >>> bunch.data[1], bunch.data[5]
    ('the old actor is famous', 'the writer laughs')
    >>> round(bunch.entropy, 6)
    7.981233
    >>> bunch.log_likelihood(["the critics wait", "the critics waits"]).round(4)
    array([-6.3528,    -inf])
    """
    rng = check_random_state(random_state)
    grammar = _grammar(n_words)
    n_sentences = _count_texts("SENTENCE", grammar)
    texts = (
        _enumerate_texts("SENTENCE", grammar)
        if n_sentences <= _MAX_ENUMERATED
        else None
    )
    words = {
        part
        for expansions in grammar.values()
        for expansion in expansions
        for part in expansion.split()
    }
    return Bunch(
        data=[_draw_text("SENTENCE", grammar, rng) for _ in range(n_samples)],
        entropy=_entropy("SENTENCE", grammar),
        log_likelihood=partial(_sentences_log_likelihood, grammar=grammar),
        vocabulary=sorted(words - set(grammar)),
        n_sentences=n_sentences,
        sentences=None if texts is None else list(texts),
        probabilities=None if texts is None else np.array(list(texts.values())),
    )
