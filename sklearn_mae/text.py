"""Texts to rows of word numbers and back: ``SequenceVectorizer``. No torch."""

import functools
import re
import reprlib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import prod
from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, RealNotInt
from sklearn.utils.validation import check_is_fitted

from sklearn_mae.parameters import Number

__all__ = ["SequenceVectorizer"]

PAD, UNKNOWN, END, FIRST_WORD = range(4)
UNKNOWN_WORD = "<unk>"
UNKNOWN_WORD_PATTERN = re.compile(r"<unk>|\[unk\]", re.IGNORECASE)
# stands for combining marks and joiners in token_pattern: re has no such class
COMBINING = r"\p{M}"
# fit warns where the longest text, which sets the number of columns, needs more than
# this many times the columns that 95 % of the texts need, and at least this many more
OUTLIER_RATIO, OUTLIER_COLUMNS = 2, 10
# parameters of CountVectorizer that say how a text is split into words
ANALYZER_PARAMETERS = ("lowercase", "preprocessor", "tokenizer", "token_pattern")

OPENING = frozenset("([{“‘«$£€#¿¡")
CLOSING = frozenset(".,!?;:)]}%…”’»।॥؟،؛")
QUOTES = frozenset("\"'")
CLITIC = re.compile(r"n['’]t|['’]\w+")


class SequenceVectorizer(TransformerMixin, BaseEstimator):
    r"""Turn texts into rows of word numbers, and rows into texts.

    It is the step before ``MutualAutoencoder(likelihood="sequence")`` in a Pipeline. A
    row holds the numbers of a text's words in their order, then the end mark, then
    padding:

    ====== =============================================
    number meaning
    ====== =============================================
    0      padding
    1      a word that is not in the vocabulary
    2      end of the text, exactly once in each row
    3, ... the words of ``vocabulary_``
    ====== =============================================

    Parameters have the meanings and defaults of scikit-learn's ``CountVectorizer``. The
    default of `token_pattern` differs: without punctuation and one-letter words a text
    cannot be restored.

    Parameters
    ----------
    max_length : int or None, default=None
        Number of columns, the end mark included: texts of `max_length` words or more
        are cut to their first ``max_length - 1`` words, counted and warned of. None:
        as many as the longest text seen in fit needs. A model's time grows with the
        number of columns, so cutting a few long texts saves time.
    lowercase : bool, default=True
        Whether to turn texts to lower case. Capitals are not restored.
    preprocessor : callable or None, default=None
        Function from text to text that replaces the conversion to lower case.
    tokenizer : callable or None, default=None
        Function from text to words, strings, that replaces `token_pattern`.
    token_pattern : str or None
        Regular expression of a word, with one capturing group at most; ignored if
        `tokenizer` is given. Within brackets ``\p{M}`` stands for the marks that
        Unicode combines with the character before them, vowel signs and accents, and
        for joiners. The default, in one line, is::

            \d+(?:[.,:/]\d+)+
            |\w[\w\p{M}]*(?:['’-]\w[\w\p{M}]*)*
            |</?\w+>|\.{2,}|-{2,}|[^\w\s][\p{M}]*

        It finds words of any length and script. A contraction or compound (``don't``,
        ``well-made``), a number (``1.5``, ``10/10``) and a tag (``<pad>``) are one word
        each; so are a punctuation mark and a run of dots or of hyphens. The pattern of
        ``CountVectorizer`` drops punctuation and one-letter words.
    min_df : float in [0, 1] or int, default=1
        Words in fewer texts than this, a fraction or a number of them, are unknown.
        Ignored if `vocabulary` is given.
    max_df : float in [0, 1] or int, default=1.0
        Words in more texts than this, a fraction or a number of them, are unknown.
        Ignored if `vocabulary` is given.
    max_features : int or None, default=None
        If given, only that many words are known, those with the most occurrences in
        all texts; of equally many, the first in alphabetical order. Ignored if
        `vocabulary` is given.
    vocabulary : iterable of str, mapping of str to int or None, default=None
        Known words. They are numbered from 3 in the order given, a set's in
        alphabetical order. A mapping gives each word its number, from 3 without gaps,
        as ``vocabulary_`` does. None: the words of the texts seen in fit, in
        alphabetical order.

    Attributes
    ----------
    vocabulary_ : dict of str to int
        Number of each known word, from 3.
    max_length_ : int
        Number of columns, the end mark included.
    n_cut_ : int
        Number of texts that fit cut.

    See Also
    --------
    sklearn.feature_extraction.text.CountVectorizer : Counts words, forgets their order.

    Notes
    -----
    In a text, ``<unk>`` and ``[unk]``, in capitals or not, are unknown words for every
    `tokenizer`. So :meth:`transform` turns a text of :meth:`inverse_transform` into the
    same row, with the default `token_pattern` and with every tokenizer that splits
    some spelling of the row into its words.

    Texts come back as their words: in lower case if `lowercase`, unknown words as
    ``<unk>``, cut texts without their end, all white space as single spaces, and
    spaces around punctuation by the rules of English. Unicode is not normalised: a
    letter and its accent as one character and as two give two different words. A
    `preprocessor` can normalise them.

    Examples
    --------
    >>> from sklearn_mae import SequenceVectorizer
    >>> vectorizer = SequenceVectorizer()
    >>> X = vectorizer.fit_transform(["I like it.", "I don't (yet)."])
    >>> X
    array([[ 7,  9,  8,  5,  2,  0,  0],
           [ 7,  6,  3, 10,  4,  5,  2]])
    >>> vectorizer.inverse_transform(X)
    array(['i like it.', "i don't (yet)."], dtype=object)
    >>> vectorizer.inverse_transform(vectorizer.transform(["I like tea."]))
    array(['i like <unk>.'], dtype=object)
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "max_length": [Number(Integral, 2, None, closed="left"), None],
        "lowercase": ["boolean"],
        "preprocessor": [callable, None],
        "tokenizer": [callable, None],
        "token_pattern": [str, None],
        "min_df": [
            Number(RealNotInt, 0, 1, closed="both"),
            Number(Integral, 1, None, closed="left"),
        ],
        "max_df": [
            Number(RealNotInt, 0, 1, closed="both"),
            Number(Integral, 1, None, closed="left"),
        ],
        "max_features": [Number(Integral, 1, None, closed="left"), None],
        "vocabulary": [Mapping, HasMethods("__iter__"), None],
    }

    def __init__(
        self,
        *,
        max_length: int | None = None,
        lowercase: bool = True,
        preprocessor: Callable[[str], str] | None = None,
        tokenizer: Callable[[str], Iterable[str]] | None = None,
        token_pattern: str | None = (
            r"\d+(?:[.,:/]\d+)+|\w[\w\p{M}]*(?:['’-]\w[\w\p{M}]*)*"
            r"|</?\w+>|\.{2,}|-{2,}|[^\w\s][\p{M}]*"
        ),
        min_df: float = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        vocabulary: Iterable[str] | Mapping[str, int] | None = None,
    ) -> None:
        self.max_length = max_length
        self.lowercase = lowercase
        self.preprocessor = preprocessor
        self.tokenizer = tokenizer
        self.token_pattern = token_pattern
        self.min_df = min_df
        self.max_df = max_df
        self.max_features = max_features
        self.vocabulary = vocabulary

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Learn the vocabulary and the number of columns.

        Parameters
        ----------
        X : iterable of str
            Texts.
        y : Ignored
            Present for API consistency.

        Returns
        -------
        SequenceVectorizer
            The fitted vectorizer.

        Raises
        ------
        ValueError, TypeError
            If a parameter or a text is invalid, or no word is left. An earlier fit
            stays.

        Warns
        -----
        UserWarning
            If texts are cut, if without `max_length` the longest needs more than twice
            the columns that 95 % of the texts need, or if the default tokenizer cannot
            find words of `vocabulary`.
        """
        self._fit(X, stacklevel=4)
        return self

    def fit_transform(self, X: Iterable[str], y: object = None) -> np.ndarray:
        """Fit to texts and transform them, in one pass.

        Parameters
        ----------
        X : iterable of str
            Texts; may be a generator.
        y : Ignored
            Present for API consistency.

        Returns
        -------
        ndarray of shape (n_samples, max_length_), int64
            Word numbers, as :meth:`transform` gives them.
        """
        return self._numbers(self._fit(X, stacklevel=5))

    def transform(self, X: Iterable[str]) -> np.ndarray:
        """Turn texts into rows of word numbers.

        Parameters
        ----------
        X : iterable of str
            Texts.

        Returns
        -------
        ndarray of shape (n_samples, max_length_), int64
            Word numbers. A text without words is an end mark and padding.

        Raises
        ------
        ValueError, TypeError
            If X is no iterable of strings.

        Warns
        -----
        UserWarning
            If texts are cut.
        """
        check_is_fitted(self)
        tokenized = _tokenize(X, _build_analyzer(self._analyzer_parameters))
        _count_cut(tokenized, self.max_length_, stacklevel=4)
        return self._numbers(tokenized)

    def inverse_transform(self, X: "ArrayLike") -> np.ndarray:
        """Turn rows of word numbers into texts.

        Padding and all that follows an end mark are ignored. Unknown words are written
        ``<unk>``. Words are joined by the first of three spellings that the tokenizer
        splits into the same words: as in English, without a space before a full stop
        or inside brackets and quotation marks; with one space between words; without
        spaces. If there is none, one space is set between words.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_columns) or (n_draws, n_samples, \
n_columns)
            Word numbers, ints or whole floats. The number of columns is free.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_draws, n_samples), object
            Texts, each a str.

        Raises
        ------
        ValueError
            If an entry is no word number.
        """
        check_is_fitted(self)
        numbers: np.ndarray = check_array(
            X,
            ensure_2d=False,
            allow_nd=True,
            ensure_min_samples=0,
            ensure_min_features=0,
            input_name="X",
        )
        self._check_numbers(numbers)
        word_of = [None, UNKNOWN_WORD, None, *self.vocabulary_]
        analyze = _build_analyzer(self._analyzer_parameters)
        *leading, n_columns = numbers.shape
        texts = np.empty(prod(leading), dtype=object)
        rows = numbers.astype(np.int64).reshape(len(texts), n_columns)
        for i, row in enumerate(rows.tolist()):
            if END in row:
                row = row[: row.index(END)]
            texts[i] = _join([word_of[number] for number in row if number], analyze)
        return texts.reshape(leading)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the columns: token0, token1, ...

        Parameters
        ----------
        input_features : Ignored
            Present for API consistency.

        Returns
        -------
        ndarray of shape (max_length_,), object
            Names.
        """
        check_is_fitted(self)
        names = [f"token{i}" for i in range(self.max_length_)]
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _fit(self, X, stacklevel):
        """Fit, and return the words of each text.

        Attributes are set at the end: a failed fit changes none.
        """
        self._validate_params()
        parameters = {name: getattr(self, name) for name in ANALYZER_PARAMETERS}
        analyze = _build_analyzer(parameters)
        given = None
        if self.vocabulary is not None:
            given = _checked_vocabulary(self.vocabulary)
        tokenized = _tokenize(X, analyze)
        longest = max(map(len, tokenized), default=0)
        if not longest:
            raise self._no_words(len(tokenized))
        if given is None:
            vocabulary = self._vocabulary_of(tokenized)
        else:
            vocabulary = given
            if self.tokenizer is None:
                _warn_of_unreadable(vocabulary, analyze, stacklevel)
        max_length = longest + 1 if self.max_length is None else int(self.max_length)
        n_cut = _count_cut(tokenized, max_length, stacklevel)
        if self.max_length is None:
            _warn_of_outlier_length(tokenized, stacklevel)
        self.vocabulary_ = vocabulary
        self.max_length_ = max_length
        self.n_cut_ = n_cut
        self._analyzer_parameters = parameters
        return tokenized

    def _vocabulary_of(self, tokenized):
        occurrences, in_texts = Counter(), Counter()
        for words in tokenized:
            occurrences.update(words)
            in_texts.update(set(words))
        del occurrences[UNKNOWN_WORD]
        if not occurrences:
            raise self._no_words(len(tokenized))
        least, most = (
            limit if isinstance(limit, Integral) else limit * len(tokenized)
            for limit in (self.min_df, self.max_df)
        )
        if most < least:
            raise ValueError(
                f"max_df={self.max_df!r} corresponds to fewer texts than min_df="
                f"{self.min_df!r}: {most:g} and {least:g} of {len(tokenized)}. Lower "
                "min_df or raise max_df."
            )
        words = [word for word in occurrences if least <= in_texts[word] <= most]
        if not words:
            raise ValueError(
                f"empty vocabulary; of {len(occurrences)} words none is in at least "
                f"min_df={self.min_df!r} and at most max_df={self.max_df!r} of the "
                f"{len(tokenized)} texts. Lower min_df or raise max_df."
            )
        words.sort(key=lambda word: (-occurrences[word], word))
        return _numbered(sorted(words[: self.max_features]))

    def _no_words(self, n_texts):
        """Return what to raise where texts have no words: the splitting is at fault."""
        name = "token_pattern" if self.tokenizer is None else "tokenizer"
        return ValueError(
            f"empty vocabulary; none of the {n_texts} texts in X holds a word. Pass "
            f"texts with words; if these have some, {name}={getattr(self, name)!r:.50} "
            "does not find them in what preprocessor leaves."
        )

    def _numbers(self, tokenized):
        number_of = self.vocabulary_.get
        X = np.full((len(tokenized), self.max_length_), PAD, dtype=np.int64)
        for row, words in zip(X, tokenized, strict=True):
            numbers = [number_of(word, UNKNOWN) for word in words[: len(row) - 1]]
            row[: len(numbers) + 1] = [*numbers, END]
        return X

    def _check_numbers(self, X):
        if X.ndim < 2:
            raise ValueError(
                "X must have shape (n_samples, n_columns) or (n_draws, n_samples, "
                f"n_columns). Got shape {X.shape}. Pass one row as X.reshape(1, -1)."
            )
        last = len(self.vocabulary_) + FIRST_WORD - 1
        wrong = np.ones(X.shape, dtype=bool)
        if X.dtype.kind in "iuf":
            wrong = (X < 0) | (X > last) | (X != np.floor(X))
        if wrong.any():
            raise ValueError(
                f"X holds entries that are no word numbers, for example {X[wrong][0]} "
                f"of type {X.dtype}. They are whole numbers from 0 to {last}: 0 is "
                "padding, 1 an unknown word, 2 the end, from 3 on those of "
                "vocabulary_. Pass what transform of this vectorizer gives."
            )


def _build_analyzer(parameters: dict) -> Callable[[str], list[str]]:
    """Return the function from a text to its words."""
    pattern = parameters["token_pattern"]
    if parameters["tokenizer"] is None:
        if isinstance(pattern, str) and COMBINING in pattern:
            parameters = {
                **parameters,
                "token_pattern": pattern.replace(COMBINING, _combining_ranges()),
            }
        try:
            re.compile(parameters["token_pattern"])
        except (re.error, TypeError) as error:
            raise ValueError(
                f"token_pattern must be a regular expression. Got {pattern!r}: {error}."
            ) from error
    vectorizer = CountVectorizer(**parameters)
    preprocess = vectorizer.build_preprocessor()
    tokenize = vectorizer.build_tokenizer()

    def words_of(text):
        prepared = preprocess(text)
        if not isinstance(prepared, str):
            raise TypeError(
                "preprocessor must give a text, a str. It gave "
                f"{_repr_and_type(prepared)} for the text {reprlib.repr(text)}."
            )
        words = tokenize(prepared)
        if not isinstance(words, Iterable):
            raise TypeError(
                "tokenizer must give words, an iterable of str. It gave "
                f"{_repr_and_type(words)} for the text {reprlib.repr(text)}."
            )
        return words

    def analyze(text):
        words = []
        for i, part in enumerate(UNKNOWN_WORD_PATTERN.split(text)):
            if i:
                words.append(UNKNOWN_WORD)
            for word in filter(_is_word, words_of(part)):
                # a tokenizer, too, may write unknown words in this form
                unknown = UNKNOWN_WORD_PATTERN.fullmatch(word)
                words.append(UNKNOWN_WORD if unknown else word)
        return words

    return analyze


@functools.cache
def _combining_ranges() -> str:
    """Return all combining marks and joiners, as ranges of a character class."""
    codes = {0x200C, 0x200D} | {
        code
        for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
        if unicodedata.category(chr(code)).startswith("M")
    }
    starts = sorted(code for code in codes if code - 1 not in codes)
    ends = sorted(code for code in codes if code + 1 not in codes)
    pairs = zip(starts, ends, strict=True)
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in pairs)


def _is_word(word) -> bool:
    if not isinstance(word, str):
        raise TypeError(
            "tokenizer must give words of type str. It gave "
            f"{_repr_and_type(word)}. Convert them in it."
        )
    return word != ""


def _repr_and_type(value) -> str:
    return f"{reprlib.repr(value)} of type {type(value).__name__}"


def _tokenize(X, analyze) -> list[list[str]]:
    """Check that X holds texts, and return the words of each."""
    if isinstance(X, str | bytes):
        kind = "string" if isinstance(X, str) else "bytes"
        raise ValueError(
            f"Iterable over raw text documents expected, {kind} object received. Pass "
            "a list of texts as X, [text] for a single one."
        )
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) != 1:
        raise ValueError(
            f"X must be one-dimensional, one text each entry. Got shape {shape}. Pass "
            "one column of it: frame['text'] of a data frame, X[:, 0] or X.ravel() of "
            "an array. In a ColumnTransformer, name the column by a string, not by a "
            "list."
        )
    if isinstance(X, Mapping) or not isinstance(X, Iterable):
        raise TypeError(
            "X must be an iterable over texts, such as a list or a pandas Series. Got "
            f"{reprlib.repr(X)} of type {type(X).__name__}."
        )
    tokenized = []
    for i, text in enumerate(X):
        if not isinstance(text, str):
            raise ValueError(
                f"X must hold strings only. At position {i} it holds "
                f"{reprlib.repr(text)} of type {type(text).__name__}. {_advice(text)}"
            )
        tokenized.append(analyze(text))
    return tokenized


def _advice(entry) -> str:
    if isinstance(entry, bytes):
        return "Decode it, for example by entry.decode('utf-8')."
    if isinstance(entry, Iterable):
        return (
            "Pass one text each entry: one column, not a table, and texts that are not "
            "split into words."
        )
    return "Fill missing texts with an empty string or drop them; convert others."


def _count_cut(tokenized, max_length, stacklevel) -> int:
    """Count the texts with too many words, and warn of them."""
    lengths = [len(words) for words in tokenized]
    n_cut = sum(length >= max_length for length in lengths)
    if n_cut:
        warnings.warn(
            f"{n_cut} of {len(lengths)} texts are longer than {max_length - 1} words "
            f"and were cut: max_length_={max_length} columns, the end mark included. "
            f"The longest has {max(lengths)} words. Set max_length={max(lengths) + 1} "
            "in SequenceVectorizer to keep them whole.",
            UserWarning,
            stacklevel=stacklevel,
        )
    return n_cut


def _warn_of_outlier_length(tokenized, stacklevel):
    lengths = np.array([len(words) for words in tokenized])
    usual, longest = int(np.quantile(lengths, 0.95, method="higher")), lengths.max()
    times = (longest + 1) / (usual + 1)
    if times > OUTLIER_RATIO and longest - usual >= OUTLIER_COLUMNS:
        warnings.warn(
            f"The longest of {len(lengths)} texts has {longest} words, and 95 % of "
            f"them have {usual} at most: all rows get {longest + 1} columns, and a "
            f"model takes up to {times:.1f} times as long for it. Set "
            f"max_length={usual + 1} to cut the {(lengths > usual).sum()} longer ones.",
            UserWarning,
            stacklevel=stacklevel,
        )


def _numbered(words) -> dict[str, int]:
    return {str(word): number for number, word in enumerate(words, FIRST_WORD)}


def _checked_vocabulary(vocabulary) -> dict[str, int]:
    """Check the parameter `vocabulary`, and number its words."""
    if isinstance(vocabulary, str | bytes):
        raise ValueError(
            "vocabulary must be an iterable over words or a mapping of words to "
            f"numbers. Got the single string {reprlib.repr(vocabulary)}. Pass a list."
        )
    words = list(vocabulary)
    if not words:
        raise ValueError(
            f"empty vocabulary: vocabulary={vocabulary!r} holds no word. Pass words, "
            "or None to learn them from the texts."
        )
    for word in words:
        if (
            not isinstance(word, str)
            or not word
            or UNKNOWN_WORD_PATTERN.fullmatch(word)
        ):
            raise ValueError(
                "vocabulary must hold words: strings, neither empty nor the mark of "
                f"unknown words, {UNKNOWN_WORD!r}. Got {reprlib.repr(word)} of type "
                f"{type(word).__name__}. Leave it out."
            )
    if isinstance(vocabulary, Mapping):
        numbers = list(vocabulary.values())
        needed = list(range(FIRST_WORD, FIRST_WORD + len(words)))
        whole = all(isinstance(number, Integral) for number in numbers)
        if not whole or sorted(numbers) != needed:
            raise ValueError(
                "vocabulary must number its words from 3 without gaps or repeats, as "
                f"vocabulary_ does. Got the numbers {reprlib.repr(numbers)}. Pass the "
                "words alone, for example sorted(vocabulary, key=vocabulary.get)."
            )
        words = [word for _, word in sorted(zip(numbers, words, strict=True))]
    elif isinstance(vocabulary, set | frozenset):
        words = sorted(words)
    repeated = [word for word, count in Counter(words).items() if count > 1]
    if repeated:
        raise ValueError(
            f"vocabulary holds {len(repeated)} words more than once: "
            f"{reprlib.repr(repeated)}. Leave out the repeats."
        )
    return _numbered(words)


def _warn_of_unreadable(vocabulary, analyze, stacklevel):
    unreadable = [word for word in vocabulary if analyze(word) != [word]]
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {len(vocabulary)} words in vocabulary are not read "
            f"as that word in any text: {reprlib.repr(unreadable)}. Look at lowercase, "
            "preprocessor and token_pattern, or leave those words out.",
            UserWarning,
            stacklevel=stacklevel,
        )


def _join(words: list[str], analyze) -> str:
    """Join words by the first spelling that is split into the same words."""
    spaced = " ".join(words)
    for text in (_join_as_english(words), spaced, "".join(words)):
        if analyze(text) == words:
            return text
    return spaced


def _join_as_english(words: list[str]) -> str:
    """Join words with the spaces that English sets around punctuation."""
    quotes = Counter(word for word in words if word in QUOTES)
    opened: set[str] = set()
    text = ""
    after_opening = True
    for word in words:
        opens, closes = word in OPENING, CLOSING.issuperset(word)
        if word in QUOTES:
            quotes[word] -= 1
            # one without a partner, such as an apostrophe, joins the word before it
            opens = word not in opened and (quotes[word] > 0 or not text)
            closes = not opens
            opened ^= {word}
        elif CLITIC.fullmatch(word):
            closes = True
        text += word if closes or after_opening else f" {word}"
        after_opening = opens
    return text
