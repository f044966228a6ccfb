"""The language of make_sentences, against what follows from its description."""

import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import entr
from scipy.stats import chisquare

from sklearn_mae import datasets
from sklearn_mae.datasets import make_sentences
from sklearn_mae.text import SequenceVectorizer
from tests.statistical import assert_mean_equal

LISTED = [1, 2, 4, 5]  # numbers of words with so few sentences that all are listed


def same(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        if not callable(value):
            assert_array_equal(value, two[name], err_msg=name)


def test_same_seed_same_sentences():
    one, two, other = (make_sentences(50, random_state=seed) for seed in (0, 0, 1))
    same(one, two)
    assert one.data != other.data
    # another seed, the same language
    other.data = one.data
    same(one, other)


def test_a_seed_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    make_sentences(50, random_state=0)
    assert_array_equal(np.random.get_state()[1], before)


def test_bunch_survives_pickling():
    bunch = make_sentences(50, random_state=0)
    copy = pickle.loads(pickle.dumps(bunch))
    same(bunch, copy)
    assert_array_equal(copy.log_likelihood(copy.data), bunch.log_likelihood(bunch.data))


@pytest.mark.parametrize("n_words", LISTED)
def test_the_list_of_sentences_says_it_all(n_words):
    bunch = make_sentences(20, n_words=n_words, random_state=0)
    assert len(bunch.sentences) == len(set(bunch.sentences)) == bunch.n_sentences
    assert set(bunch.data) <= set(bunch.sentences)
    assert_allclose(bunch.probabilities.sum(), 1, rtol=1e-12)
    assert_allclose(entr(bunch.probabilities).sum(), bunch.entropy, rtol=1e-12)
    some = slice(None, None, 1 + bunch.n_sentences // 3000)
    assert_allclose(
        bunch.log_likelihood(bunch.sentences[some]),
        np.log(bunch.probabilities[some]),
        rtol=1e-12,
    )


def test_log_likelihood_sums_to_one():
    bunch = make_sentences(1, n_words=2, random_state=0)
    total = np.exp(bunch.log_likelihood(bunch.sentences)).sum()
    assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("n_words", range(1, 17))
def test_entropy_and_count_by_the_chain_rule(n_words):
    def entropy(*weights):
        p = np.divide(weights, sum(weights))
        return entr(p).sum()

    n, word = n_words, entropy(*1 / np.arange(1, n_words + 1))
    number = entropy(0.6, 0.4)
    noun_phrase = entropy(0.6, 0.4) + entropy(0.3, 0.7) + 1.3 * word
    verb_phrase = (
        entropy(0.3, 0.5, 0.2)
        + 0.3 * (word + entropy(0.4, 0.6) + 0.4 * word)
        + 0.5 * (word + number + noun_phrase)
        + 0.2 * word
    )
    noun_phrases = 4 * n * (n + 1)
    bunch = make_sentences(1, n_words=n_words, random_state=0)
    assert_allclose(bunch.entropy, number + noun_phrase + verb_phrase, rtol=1e-12)
    assert bunch.n_sentences == noun_phrases * (n * (n + 1) + n * noun_phrases + n)
    # nouns and verbs have two forms; beside them this, these, the, is and are
    assert len(bunch.vocabulary) == len(set(bunch.vocabulary)) == 8 * n + 5


@pytest.mark.parametrize(("n_words", "listed"), [(5, True), (6, False)])
def test_long_lists_are_not_made(n_words, listed):
    bunch = make_sentences(1, n_words=n_words, random_state=0)
    assert (bunch.sentences is not None) == listed
    assert (bunch.probabilities is not None) == listed


@pytest.mark.parametrize("n_words", [2, 4, 16])
def test_entropy_is_the_expected_surprise(n_words):
    bunch = make_sentences(5000, n_words=n_words, random_state=0)
    surprise = -bunch.log_likelihood(bunch.data)
    assert_mean_equal(surprise, bunch.entropy, resolution=0.25)


def test_sentences_have_their_frequencies():
    n = 20_000
    bunch = make_sentences(n, n_words=1, random_state=0)
    counts = [bunch.data.count(sentence) for sentence in bunch.sentences]
    expected = n * bunch.probabilities
    assert expected.min() >= 5  # what chi-square needs
    # one false alarm in a million
    assert chisquare(counts, expected).pvalue > 1e-6


def test_sentences_are_sentences():
    bunch = make_sentences(2000, n_words=16, random_state=0)
    words = [sentence.split(" ") for sentence in bunch.data]
    assert {len(sentence) for sentence in words} == {3, 4, 5, 6, 7}
    assert {word for sentence in words for word in sentence} <= set(bunch.vocabulary)
    assert all(re.fullmatch("[a-z]{2,}", word) for word in bunch.vocabulary)


def test_subject_and_verb_agree():
    bunch = make_sentences(2000, random_state=0)
    rows = [
        sentence for sentence in bunch.data if " is " in sentence or " are " in sentence
    ]
    assert len(rows) > 200
    for sentence in rows:
        subject, copula = re.fullmatch(r"(.*) (is|are) \w+", sentence).groups()
        assert subject.endswith("s") == (copula == "are")
    right = ["this actor waits", "these actors wait", "the actors admire this actor"]
    wrong = ["this actor wait", "these actors waits", "this actors wait"]
    assert np.isfinite(bunch.log_likelihood(right)).all()
    assert_array_equal(bunch.log_likelihood(wrong), -np.inf)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the",
        "the actor",
        "the actor waits .",
        "the actor waits the actor",
        "the  actor waits",
        " the actor waits",
        "the actor waits ",
        "The actor waits",
        "the lawyer waits",  # a word of larger languages
        "NOUN_PHRASE_1 VERB_PHRASE_1",
        "SENTENCE",
    ],
)
def test_other_texts_are_outside_the_support(text):
    log_likelihood = make_sentences(1).log_likelihood([text, "the actor waits"])
    assert log_likelihood[0] == -np.inf
    # singular, "the", no adjective, first noun, no object or adverb, second verb
    words = 1 + 1 / 2 + 1 / 3 + 1 / 4
    probability = 0.6 * 0.6 * 0.7 / words * 0.18 / (2 * words)
    assert_allclose(log_likelihood[1], np.log(probability))


def test_no_texts_no_figures():
    assert make_sentences(1).log_likelihood([]).shape == (0,)


def test_a_string_is_no_list_of_texts():
    with pytest.raises(
        ValueError, match=r"texts must be a sequence.*'the actor'.*list"
    ):
        make_sentences(1).log_likelihood("the actor")


@pytest.mark.parametrize("text", [None, 3, b"the actor waits"])
def test_texts_are_strings(text):
    with pytest.raises(TypeError, match=r"texts must hold nothing but strings\. Got "):
        make_sentences(1).log_likelihood(["the actor waits", text])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_samples": 0}, r"n_samples.*\[1, inf\).*Got 0"),
        ({"n_samples": 2.5}, r"n_samples.*Got 2.5"),
        ({"n_words": 0}, r"n_words.*\[1, 16\].*Got 0"),
        ({"n_words": 17}, r"n_words.*\[1, 16\].*Got 17"),
        ({"random_state": "seed"}, r"random_state.*Got 'seed'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_sentences(**arguments)


def test_sentences_come_back_from_numbers():
    bunch = make_sentences(300, random_state=0)
    vectorizer = SequenceVectorizer()
    numbers = vectorizer.fit_transform(bunch.data)
    assert vectorizer.inverse_transform(numbers).tolist() == bunch.data


def test_every_public_name_is_at_the_top():
    parts = (datasets.generators, datasets.imdb, datasets.sentences)
    names = sorted(name for part in parts for name in part.__all__)
    assert names == datasets.__all__
    assert all(hasattr(datasets, name) for name in names)
