"""SequenceVectorizer: numbers, texts written again, vocabulary, messages."""

import pickle
import re
import sys
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.utils.estimator_checks as sklearn_checks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from sklearn_mae import text as text_module
from sklearn_mae.text import SequenceVectorizer

pytestmark = pytest.mark.filterwarnings("error::UserWarning:")

TEXTS = ["The cat sat.", "A cat, a dog!", "", "the dog sat"]
NUMBERS = [
    # sorted: "!" 3, "," 4, "." 5, "a" 6, "cat" 7, "dog" 8, "sat" 9, "the" 10
    [10, 7, 9, 5, 2, 0, 0],
    [6, 7, 4, 6, 8, 3, 2],
    [2, 0, 0, 0, 0, 0, 0],
    [10, 8, 9, 2, 0, 0, 0],
]


def spaces(text):
    return text.split()


def fitted(*texts, **params):
    return SequenceVectorizer(**params).fit(texts or TEXTS)


def words_of(text, **params):
    """Words that a vectorizer finds in a text, in their order."""
    vectorizer = fitted(text, **params)
    word = {number: word for word, number in vectorizer.vocabulary_.items()}
    return [word[i] for i in vectorizer.transform([text])[0] if i > 2]


def written_again(text, **params):
    vectorizer = fitted(text, **params)
    return vectorizer.inverse_transform(vectorizer.transform([text]))[0]


# --- texts to numbers -----------------------------------------------------------------


def test_numbers():
    vectorizer = SequenceVectorizer()

    X = vectorizer.fit_transform(TEXTS)

    assert X.dtype == np.int64
    np.testing.assert_array_equal(X, NUMBERS)
    np.testing.assert_array_equal(vectorizer.transform(TEXTS), NUMBERS)
    np.testing.assert_array_equal(fitted().transform(TEXTS), NUMBERS)
    assert vectorizer.max_length_ == 7
    assert vectorizer.n_cut_ == 0


def test_vocabulary_is_alphabetical_and_begins_at_3():
    words = ["!", ",", ".", "a", "cat", "dog", "sat", "the"]

    assert fitted().vocabulary_ == {word: i for i, word in enumerate(words, 3)}
    assert list(fitted().vocabulary_) == words


def test_fit_returns_the_vectorizer_and_ignores_y():
    vectorizer = SequenceVectorizer()

    assert vectorizer.fit(TEXTS, [0, 1, 0, 1]) is vectorizer
    np.testing.assert_array_equal(vectorizer.fit_transform(TEXTS, "y"), NUMBERS)


def test_unknown_words_are_1():
    np.testing.assert_array_equal(
        fitted().transform(["the parrot sat", "?"]),
        [[10, 1, 9, 2, 0, 0, 0], [1, 2, 0, 0, 0, 0, 0]],
    )


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_a_text_without_words_is_an_end_mark(text):
    np.testing.assert_array_equal(fitted().transform([text]), [[2] + [0] * 6])


def test_no_texts_no_rows():
    vectorizer = fitted()

    assert vectorizer.transform([]).shape == (0, 7)
    assert vectorizer.inverse_transform(vectorizer.transform([])).shape == (0,)


@pytest.mark.parametrize(
    "kind",
    [
        tuple,
        iter,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        pd.Series,
        lambda texts: pd.Series(texts, index=[3, 1, 4, 1], dtype="category"),
        lambda texts: (text for text in texts),
        lambda texts: map(np.str_, texts),
    ],
)
def test_kinds_of_iterables(kind):
    np.testing.assert_array_equal(
        SequenceVectorizer().fit_transform(kind(TEXTS)), NUMBERS
    )
    np.testing.assert_array_equal(
        SequenceVectorizer().fit(kind(TEXTS)).transform(kind(TEXTS)), NUMBERS
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I am a C fan", ["i", "am", "a", "c", "fan"]),
        ("Don't! It's", ["don't", "!", "it's"]),
        ("isn’t", ["isn’t"]),
        ("a well-made b-movie", ["a", "well-made", "b-movie"]),
        ("1.5 of 10/10, 1,000", ["1.5", "of", "10/10", ",", "1,000"]),
        ("so ... -- what?!", ["so", "...", "--", "what", "?", "!"]),
        ("wait...what--no", ["wait", "...", "what", "--", "no"]),
        ('("x")', ["(", '"', "x", '"', ")"]),
        ("50% & $3", ["50", "%", "&", "$", "3"]),
        ("naïve Straße 映画 ☺", ["naïve", "straße", "映画", "☺"]),
        ("snake_case", ["snake_case"]),
    ],
)
def test_words_of_the_default_pattern(text, words):
    assert words_of(text) == words


def test_reading_follows_the_parameters():
    assert words_of("The CAT", lowercase=False) == ["The", "CAT"]
    assert words_of("The CAT", preprocessor=str.swapcase) == ["tHE", "cat"]
    assert words_of("The cat.", tokenizer=spaces) == ["the", "cat."]
    assert words_of("ab", tokenizer=iter) == ["a", "b"]
    assert words_of("The cat.", token_pattern=r"\w\w\w") == ["the", "cat"]
    assert words_of("x=1 y=2", token_pattern=r"(\w)=") == ["x", "y"]
    assert words_of("a cat", token_pattern=r"\w*") == ["a", "cat"]


def test_pattern_of_count_vectorizer_gives_its_words():
    pattern = CountVectorizer().token_pattern
    count = CountVectorizer().fit(TEXTS)

    known = fitted(*TEXTS, token_pattern=pattern).vocabulary_

    assert known == {word: i + 3 for word, i in count.vocabulary_.items()}


def test_changed_parameters_wait_for_the_next_fit():
    vectorizer = fitted()
    vectorizer.set_params(lowercase=False, tokenizer=list, max_length=2)

    np.testing.assert_array_equal(vectorizer.transform(TEXTS), NUMBERS)
    assert vectorizer.inverse_transform(NUMBERS)[1] == "a cat, a dog!"


# --- length ---------------------------------------------------------------------------


def test_max_length_counts_columns():
    X = SequenceVectorizer(max_length=9).fit_transform(["a b c"])

    np.testing.assert_array_equal(X, [[3, 4, 5, 2, 0, 0, 0, 0, 0]])


def test_a_text_that_just_fits():
    vectorizer = SequenceVectorizer(max_length=np.int64(4))

    np.testing.assert_array_equal(vectorizer.fit_transform(["a b c"]), [[3, 4, 5, 2]])
    assert vectorizer.max_length_ == 4
    assert type(vectorizer.max_length_) is int
    assert vectorizer.n_cut_ == 0


CUT = (
    r"2 of 3 texts are longer than 2 words and were cut: max_length_=3 columns, the "
    r"end mark included\. The longest has 5 words\. Set max_length=6 in "
    r"SequenceVectorizer to keep them whole\."
)


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_fit_cuts_counts_and_warns(method):
    vectorizer = SequenceVectorizer(max_length=3)

    with pytest.warns(UserWarning, match=CUT) as caught:
        getattr(vectorizer, method)(["a b", "a b c", "a b c d e"])

    assert [warning.filename for warning in caught] == [__file__]
    assert vectorizer.n_cut_ == 2
    assert vectorizer.max_length_ == 3
    assert len(vectorizer.vocabulary_) == 5  # the words cut off are known


def test_transform_cuts_and_warns():
    vectorizer = fitted("a b")

    with pytest.warns(UserWarning, match=CUT) as caught:
        X = vectorizer.transform(["a b", "b a c", "b b c d e"])

    assert [warning.filename for warning in caught] == [__file__]
    np.testing.assert_array_equal(X, [[3, 4, 2], [4, 3, 2], [4, 4, 2]])
    assert vectorizer.n_cut_ == 0


# --- vocabulary -----------------------------------------------------------------------


def test_thresholds_count_texts_not_occurrences():
    texts = ["a a a b", "b c", "b c"]

    assert list(fitted(*texts, min_df=2).vocabulary_) == ["b", "c"]
    assert list(fitted(*texts, max_df=2).vocabulary_) == ["a", "c"]
    assert list(fitted(*texts, min_df=0.5, max_df=0.7).vocabulary_) == ["c"]


def test_max_features_counts_occurrences():
    texts = ["a a a b", "b c d", "d c b"]

    assert list(fitted(*texts, max_features=2).vocabulary_) == ["a", "b"]
    assert list(fitted(*texts, max_features=9).vocabulary_) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("texts", [["c b", "a d"], ["a d", "b c"]])
def test_equally_frequent_words_are_taken_alphabetically(texts):
    assert list(fitted(*texts, max_features=2).vocabulary_) == ["a", "b"]


short_texts = st.lists(st.text("abcde ", max_size=12), min_size=1, max_size=8)
thresholds = st.integers(1, 4) | st.floats(0, 1)


@settings(deadline=None)
@given(short_texts, thresholds, thresholds)
def test_thresholds_are_those_of_count_vectorizer(texts, min_df, max_df):
    params = {"min_df": min_df, "max_df": max_df, "token_pattern": r"\w"}
    try:
        count = CountVectorizer(**params).fit(texts)
    except ValueError:
        with pytest.raises(ValueError, match=r"min_df|empty vocabulary"):
            fitted(*texts, **params)
    else:
        known = fitted(*texts, **params).vocabulary_
        assert known == {word: i + 3 for word, i in count.vocabulary_.items()}


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, np.array, pd.Series, dict.fromkeys]
)
def test_given_words_are_numbered_in_their_order(kind):
    words = kind(["the", "cat", "a"])
    if isinstance(words, dict):
        words = words.keys()

    vectorizer = SequenceVectorizer(vocabulary=words, min_df=4, max_features=1)

    np.testing.assert_array_equal(
        vectorizer.fit_transform(["a cat", "the dog"]), [[5, 4, 2], [3, 1, 2]]
    )
    assert vectorizer.vocabulary_ == {"the": 3, "cat": 4, "a": 5}
    assert {type(word) for word in vectorizer.vocabulary_} == {str}


@pytest.mark.parametrize("kind", [set, frozenset])
def test_given_set_is_sorted(kind):
    known = fitted("a", vocabulary=kind("hgfedcba")).vocabulary_

    assert known == {word: i for i, word in enumerate("abcdefgh", 3)}


def test_an_earlier_vocabulary_is_kept():
    earlier = {"the": 4, "a": 3, "cat": np.int64(5)}

    vectorizer = fitted("the dog", vocabulary=earlier)

    assert vectorizer.vocabulary_ == earlier
    assert list(vectorizer.vocabulary_) == ["a", "the", "cat"]
    assert vectorizer.inverse_transform([[4, 5, 2]]) == "the cat"
    np.testing.assert_array_equal(vectorizer.transform(["a cat"]), [[3, 5, 2]])


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("words", r"an iterable over words .* Got the single string 'words'\. Pass a"),
        (b"words", r"Got the single string b'words'"),
        ([], r"empty vocabulary: vocabulary=\[\] holds no word\. Pass words, or None"),
        ({}, r"empty vocabulary: vocabulary=\{\} holds no word"),
        (["a", 3], r"vocabulary must hold words: .* Got 3 of type int\. Leave it out"),
        ([["a"]], r"Got \['a'\] of type list"),
        ({"a", None}, r"Got None of type NoneType"),
        (["a", ""], r"neither empty nor .* Got '' of type str"),
        (["<unk>"], r"the mark of unknown words, '<unk>'\. Got '<unk>' of type str"),
        (["b", "a", "b", "b"], r"holds 1 words more than once: \['b'\]\. Leave out"),
        ({"a": 0, "b": 1}, r"from 3 without gaps or repeats.* numbers \[0, 1\]\. Pass"),
        ({"a": 3, "b": 5}, r"Got the numbers \[3, 5\]"),
        ({"a": 3, "b": 3}, r"Got the numbers \[3, 3\]"),
        ({"a": 3, "b": "4"}, r"Got the numbers \[3, '4'\]"),
        ({"a": 3.0}, r"Got the numbers \[3\.0\]"),
    ],
)
def test_no_vocabulary(vocabulary, message):
    with pytest.raises(ValueError, match=message):
        SequenceVectorizer(vocabulary=vocabulary).fit(TEXTS)


def test_given_words_that_cannot_be_read_are_warned_of():
    message = (
        r"2 of 3 words in vocabulary are not read as that word in any text: "
        r"\['Cat', 'new york'\]\. Look at lowercase"
    )
    vocabulary = ["Cat", "new york", "a"]

    with pytest.warns(UserWarning, match=message) as caught:
        fitted("a", vocabulary=vocabulary)

    assert [warning.filename for warning in caught] == [__file__]
    assert fitted("a", vocabulary=vocabulary, tokenizer=spaces).vocabulary_["Cat"] == 3


def test_no_words_at_all():
    message = r"empty vocabulary; none of the 2 texts in X holds a word\. Pass texts"

    for params in ({}, {"vocabulary": ["a"]}):
        with pytest.raises(ValueError, match=message):
            SequenceVectorizer(**params).fit(["", "  "])
    with pytest.raises(ValueError, match="none of the 0 texts"):
        SequenceVectorizer().fit([])


@pytest.mark.parametrize("pattern", ["", "()", "z*", "(?=i)", "x"])
@pytest.mark.parametrize("texts", [["I like it.", "no tea"], ["<unk>", "I [UNK] it"]])
def test_a_pattern_that_finds_no_words_is_blamed(pattern, texts):
    message = rf"empty vocabulary; .* token_pattern='{re.escape(pattern)}' does not fi"

    with pytest.raises(ValueError, match=message):
        SequenceVectorizer(token_pattern=pattern, min_df=2).fit(texts)


def test_a_tokenizer_that_finds_no_words_is_blamed():
    def nothing(text):
        return [""]

    with pytest.raises(ValueError, match="if these have some, tokenizer=<function"):
        SequenceVectorizer(tokenizer=nothing, token_pattern=None).fit(["a", "<unk>"])


def test_no_words_left():
    message = (
        r"empty vocabulary; of 3 words none is in at least min_df=2 and at most "
        r"max_df=1\.0 of the 2 texts\. Lower min_df or raise max_df\."
    )

    with pytest.raises(ValueError, match=message):
        fitted("a b", "c", min_df=2)


def test_contradicting_thresholds():
    message = (
        r"max_df=0\.5 corresponds to fewer texts than min_df=2: 1 and 2 of 2\. Lower"
    )

    with pytest.raises(ValueError, match=message):
        fitted("a b", "a", min_df=2, max_df=0.5)


# --- numbers to texts -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "it's good, isn't it? yes: very; well-made!",
        'he said "go (on)" and left.',
        "'tis true",
        "the directors' cut",
        "rock 'n' roll",
        '("lost jungle")',
        "so... why?!",
        "a -- b & c / d",
        "$100, 50% off",
        "“curly” ‘quotes’… «x» [y] {z}",
        "1.5 of 10/10",
        '"',
        "a [b",
    ],
)
def test_texts_come_back_as_one_writes_them(text):
    assert written_again(text) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("The  CAT \n sat .", "the cat sat."),
        ("what ? !", "what?!"),
        ("( x )", "(x)"),
        # closing up would make other words of these
        ("so . ...", "so . ..."),
        ("a... . b", "a ... . b"),
        ("1 . 5", "1. 5"),
        ("", ""),
    ],
)
def test_spaces_are_put_where_they_belong(text, written):
    vectorizer = fitted(text + " x")

    assert vectorizer.inverse_transform(vectorizer.transform([text]))[0] == written


def test_clitics_join_the_word_before():
    pattern = r"n't|'\w+|\w+?(?=n't)|\w+|[^\w\s]"
    assert words_of("It's mine; don't!", token_pattern=pattern) == [
        *("it", "'s", "mine", ";", "do", "n't", "!")
    ]

    assert written_again("it's mine; don't!", token_pattern=pattern) == (
        "it's mine; don't!"
    )


def test_a_tokenizer_is_asked_how_words_join():
    assert written_again("it 's ( good ) .", tokenizer=spaces) == "it 's ( good ) ."
    assert written_again("a b, c", tokenizer=list) == "a b, c"
    # reads nothing as it was: one space
    backwards = lambda text: text.split()[::-1]
    assert written_again("a b", tokenizer=backwards) == "b a"


def decomposed(text):
    return unicodedata.normalize("NFD", text)


SCRIPTS = {
    "Hindi": "मुझे यह फ़िल्म बहुत अच्छी लगी। क्या आप हिंदी जानते हैं?",
    "Hindi with a joiner": "शक्\u200dति और क्\u200cष",
    "Bengali": "আমি বাংলায় গান গাই",
    "Tamil": "நான் தமிழ் பேசுகிறேன்",
    "Thai": "ผมชอบภาพยนตร์เรื่องนี้ มากที่สุด",
    "Lao": "ຂ້ອຍມັກຮູບເງົາເລື່ອງນີ້",
    "Burmese": "ကျွန်တော် မြန်မာ စကား ပြောတယ်",
    "Arabic with vowels": "كِتَابٌ جَمِيلٌ جِدًّا",
    "Persian with a joiner": "من می\u200cخواهم کتاب\u200cها",
    "Hebrew with vowels": "שָׁלוֹם עֲלֵיכֶם",
    "French, decomposed": unicodedata.normalize(
        "NFD", "déjà-vu, c'est l'été à Orléans."
    ),
    "Vietnamese, decomposed": decomposed("tiếng việt rất đẹp."),
    "German, composed": "schöne grüße, übrigens.",
    "emoji": "so good ❤️.",
}


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_marks_stay_with_their_letters(text):
    vectorizer = SequenceVectorizer(lowercase=False)

    X = vectorizer.fit_transform([text])

    words = re.sub("([।,.?])", r" \1", text).split()
    assert sorted(vectorizer.vocabulary_) == sorted(set(words))
    assert vectorizer.inverse_transform(X)[0] == text


def test_lower_case_may_add_a_mark():
    assert words_of("İstanbul") == ["i̇stanbul"]
    assert len(words_of("İstanbul")) == 1


def test_a_mark_alone_is_a_word():
    assert words_of("a \u0301 b") == ["a", "\u0301", "b"]


def test_marks_in_a_pattern_of_ones_own():
    assert words_of("e\u0301 e", token_pattern=r"e[\p{M}]+") == ["e\u0301"]
    assert words_of("यह है", token_pattern=r"[\w\p{M}]+") == ["यह", "है"]


def test_all_marks_that_this_python_knows():
    pattern = re.compile(f"[{text_module._combining_ranges()}]")
    marks = [
        c
        for c in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(c)[0] == "M"
    ]

    assert all(pattern.fullmatch(mark) for mark in marks)
    assert not pattern.search("".join(chr(c) for c in range(32, 0x300)) + "।ก啊")


@pytest.mark.parametrize("mark", ["<unk>", "<UNK>", "<Unk>", "[UNK]", "[unk]"])
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("tokenizer", [None, str.split])
def test_marks_of_unknown_words(mark, lowercase, tokenizer):
    vectorizer = SequenceVectorizer(lowercase=lowercase, tokenizer=tokenizer)

    X = vectorizer.fit_transform([f"a {mark} b"])

    assert list(vectorizer.vocabulary_) == ["a", "b"]
    assert X.tolist() == [[3, 1, 4, 2]]
    assert vectorizer.inverse_transform(X)[0] == "a <unk> b"


@pytest.mark.parametrize("mark", ["<pad>", "<PAD>", "<eos>", "<s>", "</s>", "<num_2>"])
def test_tags_are_words(mark):
    vectorizer = SequenceVectorizer(lowercase=False).fit([f"a {mark} b"])

    assert set(vectorizer.vocabulary_) == {"a", mark, "b"}
    again = vectorizer.inverse_transform(vectorizer.transform([f"{mark} a {mark}"]))
    assert again[0] == f"{mark} a {mark}"
    assert words_of("a < b and c>d") == ["a", "<", "b", "and", "c", ">", "d"]


# --- texts that stretch all rows ------------------------------------------------------

SHORT = ["one two three four five six seven eight"] * 200


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
@pytest.mark.parametrize("n_long", [1, 5])
def test_a_few_texts_that_stretch_all_rows(method, n_long):
    texts = [*SHORT, *["word " * 200] * n_long]
    message = (
        f"The longest of {len(texts)} texts has 200 words, and 95 % of them have 8 at "
        "most: all rows get 201 columns, and a model takes up to 22.3 times as long "
        f"for it. Set max_length=9 to cut the {n_long} longer ones."
    )

    with pytest.warns(UserWarning, match="The longest of") as caught:
        getattr(SequenceVectorizer(), method)(texts)

    assert [str(warning.message) for warning in caught] == [message]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("texts", "params"),
    [
        ([*SHORT, "word " * 200], {"max_length": 201}),
        ([*SHORT, "word " * 17], {}),  # not twice as wide
        ([*["a b"] * 200, "word " * 11], {}),  # few columns
        ([*SHORT, *["word " * 200] * 11], {}),  # more than 5 %
        (["a", "word " * 200], {}),
    ],
)
def test_texts_that_do_not_stretch_rows(texts, params):
    SequenceVectorizer(**params).fit(texts)  # a warning is an error here


def test_unknown_words_are_marked():
    vectorizer = fitted("a cat, b.", max_length=9)

    X = vectorizer.transform(["a dog, (cat)."])

    assert vectorizer.inverse_transform(X)[0] == "a <unk>, <unk> cat <unk>."


@pytest.mark.parametrize("tokenizer", [None, spaces, list])
def test_the_mark_of_unknown_words_is_read_as_one(tokenizer):
    vectorizer = fitted("a <unk> <unk> b c", tokenizer=tokenizer)
    a, b = vectorizer.vocabulary_["a"], vectorizer.vocabulary_["b"]

    X = vectorizer.transform(["a<unk>b<unk>", "<unk>"])

    assert vectorizer.vocabulary_.keys() <= {" ", "a", "b", "c"}
    assert X[0, :5].tolist() == [a, 1, b, 1, 2]
    assert X[1, :2].tolist() == [1, 2]
    np.testing.assert_array_equal(
        vectorizer.transform(vectorizer.inverse_transform(X)), X
    )


def test_rows_end_at_the_end_mark_and_padding_is_ignored():
    X = [[0, 6, 0, 7, 2, 9], [2, 6, 6, 6, 6, 6], [6, 7, 0, 0, 0, 0], [0] * 6]

    texts = fitted().inverse_transform(X)

    assert texts.tolist() == ["a cat", "", "a cat", ""]


@pytest.mark.parametrize(
    "kind",
    [
        np.array,
        lambda X: np.array(X, dtype=np.float32),
        lambda X: np.array(X, dtype=object),
        lambda X: np.array(X, dtype=np.uint8),
        lambda X: X,
        pd.DataFrame,
        lambda X: np.pad(X, ((0, 0), (0, 30))),
    ],
)
def test_kinds_of_matrices(kind):
    texts = fitted().inverse_transform(kind(NUMBERS))

    assert texts.dtype == object
    assert {type(text) for text in texts} == {str}
    assert texts.tolist() == ["the cat sat.", "a cat, a dog!", "", "the dog sat"]


def test_fewer_columns_will_do():
    texts = fitted().inverse_transform(np.array(NUMBERS)[:, :2])

    assert texts.tolist() == ["the cat", "a cat", "", "the dog"]
    assert fitted().inverse_transform(np.zeros((3, 0))).tolist() == [""] * 3


def test_draws_of_rows():
    X = np.array([NUMBERS[:3], NUMBERS[1:]], dtype=float)

    texts = fitted().inverse_transform(X)

    assert texts.shape == (2, 3)
    assert texts[1].tolist() == ["a cat, a dog!", "", "the dog sat"]
    assert fitted().inverse_transform(np.zeros((0, 3, 7))).shape == (0, 3)


@pytest.mark.parametrize("wrong", [-1, 11, 3.5, 1e300])
def test_no_word_number(wrong):
    X = np.array(NUMBERS, dtype=type(wrong))
    X[2, 3] = wrong
    message = (
        r"X holds entries that are no word numbers, for example "
        rf"{re.escape(str(wrong))} of type {X.dtype}\. They are whole numbers from 0 "
        r"to 10: .* Pass what"
    )

    with pytest.raises(ValueError, match=message):
        fitted().inverse_transform(X)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones((2, 3), dtype=bool), ValueError, "example True of type bool"),
        ([3, 4], ValueError, r"Got shape \(2,\)\. Pass one row as X.reshape\(1, -1\)"),
        (3, ValueError, r"Got shape \(\)"),
        ([[3, np.nan]], ValueError, "Input X contains NaN"),
        (["a cat"], ValueError, "strings"),
        ([[3, "a"]], ValueError, "strings|could not convert"),
        (sparse.csr_array(NUMBERS), TypeError, "[Ss]parse"),
    ],
)
def test_no_matrix_of_numbers(X, error, message):
    with pytest.raises(error, match=message):
        fitted().inverse_transform(X)


# --- there and back -------------------------------------------------------------------

RUNS = st.sampled_from(
    [
        *".,!?;:()[]'\"-/%$&<>’“”…",
        *["...", "--", "10/10", "1.5", "3", "don't", "it's", "'s", "n't"],
        *["a", "b-c", "Word", "<unk>", " ", "  ", "\n"],
    ]
)
like_sentences = st.lists(RUNS, min_size=1, max_size=20).map("".join)
any_text = st.text(max_size=20) | like_sentences


@settings(deadline=None, max_examples=300)
@given(
    st.lists(any_text, min_size=1, max_size=4),
    st.sampled_from(
        [
            {},
            {"lowercase": False},
            {"token_pattern": r"(?u)\b\w\w+\b"},
            {"token_pattern": r"\S+"},
            {"tokenizer": spaces},
            {"tokenizer": list},
            {"preprocessor": str.casefold},
        ]
    ),
)
def test_written_texts_are_read_as_the_same_row(texts, params):
    vectorizer = SequenceVectorizer(**params)
    X = vectorizer.fit_transform([*texts, "one word"])

    written = vectorizer.inverse_transform(X)

    np.testing.assert_array_equal(vectorizer.transform(written), X)


@settings(deadline=None)
@given(any_text, st.data())
def test_any_row_is_written_so_that_it_is_read_again(text, data):
    """Also what no text was ever turned into: a model may write it."""
    vectorizer = fitted(text + " a ...", max_length=30)
    last = len(vectorizer.vocabulary_) + 2
    number = st.just(1) | st.integers(3, last)
    numbers = data.draw(st.lists(number, max_size=29))
    X = [[*numbers, 2] + [0] * (29 - len(numbers))]

    written = vectorizer.inverse_transform(X)

    np.testing.assert_array_equal(vectorizer.transform(written), X)


# --- X that is no texts ---------------------------------------------------------------

methods = pytest.mark.parametrize(
    "call",
    [
        lambda X: SequenceVectorizer().fit(X),
        lambda X: SequenceVectorizer().fit_transform(X),
        lambda X: fitted().transform(X),
    ],
    ids=["fit", "fit_transform", "transform"],
)


@methods
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            "a cat",
            r"Iterable over raw text documents expected, string object received\. "
            r"Pass a list of texts as X, \[text\] for a single one\.",
        ),
        (b"a cat", "raw text documents expected, bytes object received"),
        (
            np.array([["a"], ["b"]]),
            r"X must be one-dimensional, one text each entry\. Got shape \(2, 1\)\. "
            r"Pass one column of it: frame\['text'\] of a data frame, X\[:, 0\]",
        ),
        (pd.DataFrame({"text": TEXTS}), r"Got shape \(4, 1\)"),
        (np.array("a cat"), r"Got shape \(\)"),
        (sparse.csr_array(NUMBERS), r"Got shape \(4, 7\)"),
        (
            ["a", None],
            r"X must hold strings only\. At position 1 it holds None of type "
            r"NoneType\. Fill missing texts with an empty string or drop them; "
            r"convert others\.",
        ),
        (["a", np.nan], r"At position 1 it holds nan of type float\. Fill"),
        (pd.Series(["a", "b", pd.NA]), r"At position 2 it holds (nan|<NA>) of type"),
        (
            dict.fromkeys(["a", "b", 3]).keys(),
            r"At position 2 it holds 3 of type int\.",
        ),
        (["a", b"b"], r"1 it holds b'b' of type bytes\. Decode it, for example by"),
        ([["a"], ["b"]], r"0 it holds \['a'\] of type list\. Pass one text each entry"),
        ([["a", "cat"]], r"texts that are not split into words"),
        (np.arange(3), r"At position 0 it holds .*0.* of type int64\."),
    ],
)
def test_no_texts(call, X, message):
    with pytest.raises(ValueError, match=message):
        call(X)


@methods
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (None, r"X must be an iterable over texts, .* Got None of type NoneType\."),
        (5, r"Got 5 of type int"),
        ({"text": TEXTS}, r"Got \{.* of type dict"),
    ],
)
def test_no_iterable_of_texts(call, X, message):
    with pytest.raises(TypeError, match=message):
        call(X)


# --- parameters -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_length", 1),
        ("max_length", 4.0),
        ("lowercase", "yes"),
        ("preprocessor", "strip"),
        ("tokenizer", "split"),
        ("token_pattern", 3),
        ("min_df", 0),
        ("min_df", 1.5),
        ("max_df", -1),
        ("max_features", 0),
        ("vocabulary", 3),
    ],
)
def test_wrong_parameters(name, value):
    message = rf"The '{name}' parameter of SequenceVectorizer must be .* Got {value!r}"

    with pytest.raises(ValueError, match=message):
        SequenceVectorizer(**{name: value}).fit(TEXTS)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"token_pattern must be a regular expression\. Got '\(': "),
        (None, r"token_pattern must be a regular expression\. Got None: "),
        (r"(\w)(\w)", "More than 1 capturing group in token pattern"),
    ],
)
def test_no_pattern(pattern, message):
    with pytest.raises(ValueError, match=message):
        fitted(token_pattern=pattern)


def test_the_pattern_is_ignored_with_a_tokenizer():
    assert words_of("a b", tokenizer=spaces, token_pattern=None) == ["a", "b"]
    assert words_of("a b", tokenizer=spaces, token_pattern="(") == ["a", "b"]


def test_a_tokenizer_that_gives_no_strings():
    message = (
        r"tokenizer must give words of type str\. It gave 116 of type int\. Convert"
    )

    with pytest.raises(TypeError, match=message):
        fitted(tokenizer=lambda text: [ord(letter) for letter in text])


# --- scikit-learn ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "X"),
    [
        ({"max_length": 0}, ["new words"]),
        ({"vocabulary": [3]}, ["new words"]),
        ({"token_pattern": "("}, ["new words"]),
        ({"tokenizer": lambda text: [3]}, ["new words"]),
        ({"min_df": 2}, ["new words"]),
        ({}, ["new words", None]),
        ({}, "new words"),
        ({"max_length": 2}, ["a warning turned into an error"]),
    ],
)
def test_a_failed_fit_leaves_the_earlier_one(params, X):
    vectorizer = fitted()
    learned = {k: v for k, v in vars(vectorizer).items() if k.endswith("_")}

    with (
        warnings.catch_warnings(action="error"),
        pytest.raises((ValueError, TypeError, UserWarning)),
    ):
        vectorizer.set_params(**params).fit(X)

    assert {k: v for k, v in vars(vectorizer).items() if k.endswith("_")} == learned
    np.testing.assert_array_equal(vectorizer.transform(TEXTS), NUMBERS)


def test_a_second_fit_forgets_the_first():
    vectorizer = fitted()

    np.testing.assert_array_equal(vectorizer.fit_transform(["x"]), [[3, 2]])
    assert vectorizer.vocabulary_ == {"x": 3}


@pytest.mark.parametrize(
    "call",
    [
        lambda vectorizer: vectorizer.transform(TEXTS),
        lambda vectorizer: vectorizer.inverse_transform(NUMBERS),
        lambda vectorizer: vectorizer.get_feature_names_out(),
    ],
)
@pytest.mark.parametrize("vocabulary", [None, ["a"]])
def test_not_fitted(call, vocabulary):
    with pytest.raises(NotFittedError, match="SequenceVectorizer"):
        call(SequenceVectorizer(vocabulary=vocabulary))


def test_feature_names():
    names = fitted().get_feature_names_out()

    assert names.dtype == object
    assert names.tolist() == [f"token{i}" for i in range(7)]
    assert fitted().get_feature_names_out(["text"]).tolist() == names.tolist()


def test_pandas_output():
    vectorizer = SequenceVectorizer().set_output(transform="pandas")
    texts = pd.Series(TEXTS, index=list("wxyz"))

    for frame in (vectorizer.fit_transform(texts), vectorizer.transform(texts)):
        assert list(frame.columns) == list(vectorizer.get_feature_names_out())
        assert list(frame.index) == list("wxyz")
        assert set(frame.dtypes) == {np.dtype(np.int64)}
        np.testing.assert_array_equal(frame, NUMBERS)
    assert vectorizer.transform(TEXTS).shape == (4, 7)
    assert vectorizer.inverse_transform(frame)[1] == "a cat, a dog!"


def test_in_a_pipeline():
    pipeline = make_pipeline(
        SequenceVectorizer(min_df=2),
        FunctionTransformer(lambda X: X * 1.0, lambda X: X),
    )

    X = pipeline.fit_transform(TEXTS)

    assert pipeline.inverse_transform(X).tolist() == [
        "the cat sat <unk>",
        "<unk> cat <unk> <unk> dog <unk>",
        "",
        "the dog sat",
    ]


def test_pickling_keeps_what_was_learned():
    vectorizer = fitted(*TEXTS, tokenizer=spaces, min_df=2)

    copy = pickle.loads(pickle.dumps(vectorizer))

    assert copy.vocabulary_ == vectorizer.vocabulary_
    np.testing.assert_array_equal(copy.transform(TEXTS), vectorizer.transform(TEXTS))
    assert copy.inverse_transform([[3, 1]]) == vectorizer.inverse_transform([[3, 1]])


def test_cloning_keeps_the_parameters_alone():
    vectorizer = fitted("a", max_length=9, vocabulary=["a", "b"], tokenizer=spaces)

    copy = clone(vectorizer)

    assert copy.get_params() == vectorizer.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]


def test_defaults_are_those_of_count_vectorizer():
    theirs = CountVectorizer().get_params()
    ours = SequenceVectorizer().get_params()

    shared = (ours.keys() & theirs.keys()) - {"token_pattern"}
    assert ours.keys() - theirs.keys() == {"max_length"}
    assert {name: ours[name] for name in shared} == {
        name: theirs[name] for name in shared
    }


def test_tags():
    tags = get_tags(SequenceVectorizer())

    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.transformer_tags.preserves_dtype == []
    assert not hasattr(fitted(), "n_features_in_")


def test_checks_of_scikit_learn():
    with pytest.warns(SkipTestWarning, match="input"):
        sklearn_checks.check_estimator(SequenceVectorizer())


@pytest.mark.parametrize(
    "name",
    [
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_param_validation",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_checks_that_need_no_table(name):
    getattr(sklearn_checks, name)("SequenceVectorizer", SequenceVectorizer())


@pytest.mark.parametrize("mark", ["<unk>", "<UNK>", "[UNK]"])
def test_a_tokenizer_may_have_a_mark_of_its_own(mark):
    def tokenizer(text):
        return [word if word.islower() else mark for word in text.split()]

    vectorizer = SequenceVectorizer(tokenizer=tokenizer, lowercase=False)
    X = vectorizer.fit_transform(["we saw 12 cats", "we saw"])

    assert list(vectorizer.vocabulary_) == ["cats", "saw", "we"]
    assert X[0].tolist() == [5, 4, 1, 3, 2]
    again = SequenceVectorizer(vocabulary=vectorizer.vocabulary_)
    assert again.fit(["we"]).vocabulary_ == vectorizer.vocabulary_
