"""fetch_imdb_sentences on small archives of the official layout; nothing is fetched."""

import gzip
import hashlib
import io
import os
import pickle
import re
import tarfile
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_mae.datasets import fetch_imdb_sentences, imdb
from sklearn_mae.text import SequenceVectorizer

REVIEWS = {
    "test/neg/0_2": "Not good. Not at all!",
    "test/pos/0_10": "Great.<br /><br />Loved it",
    "train/neg/0_3": "This one is far too long to be kept by anybody here. Bad...",
    "train/neg/10_1": "A bore! A bore!",
    "train/neg/2_4": "This review is one sentence and it has too many words.",
    "train/pos/0_9": "Très amusant, “isn’t it”? I give it 9/10.",
    "train/unsup/0_0": "Who knows?",
}
TRAIN = [
    ("train/neg/0_3", "bad ..."),
    ("train/neg/10_1", "a bore !"),
    ("train/neg/10_1", "a bore !"),
    ("train/pos/0_9", 'très amusant , " isn\'t it " ?'),
    ("train/pos/0_9", "i give it 9/10 ."),
]
COUNTS = "does not have the official number of reviews"


def encoded(reviews):
    return {f"aclImdb/{name}.txt": text.encode() for name, text in reviews.items()}


def write_archive(path, files):
    # the archive's order is not the alphabet's, and it holds more than reviews
    others = {"aclImdb/README": b"", "aclImdb/train/urls_pos.txt": b"http://\n"}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in reversed({**files, **others}.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    (path / "aclImdb/train/urls_pos.txt").write_text("http://\n")
    (path / "aclImdb/train/pos/.DS_Store").write_bytes(b"\xff")
    return path


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture(params=[write_archive, write_folder])
def write(request):
    return request.param


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "reviews.tar.gz", encoded(REVIEWS))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Put a small archive where the official one would be downloaded from."""
    (tmp_path / "site").mkdir()
    path = write_archive(tmp_path / "site" / imdb._FILENAME, encoded(REVIEWS))
    url = path.as_uri().replace("file://", "file://localhost", 1)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(imdb, "_URL", url)
    monkeypatch.setattr(imdb, "_CHECKSUM", checksum)
    return path


@pytest.fixture
def nothing_is_read(monkeypatch):
    def refuse(*args):
        raise AssertionError("the reviews are read again")

    def forbid():
        monkeypatch.setattr(imdb, "_extract", refuse)

    return forbid


@pytest.fixture
def fetch(home):
    """Fetch without the warning of which small archives give rise."""

    def fetch(**arguments):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", f".*{COUNTS}")
            return fetch_imdb_sentences(data_home=home, **arguments)

    return fetch


def files_below(home):
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def cut(review, max_words=8):
    return list(imdb._short_sentences(review, max_words))


# Sentences


@pytest.mark.parametrize(
    ("review", "sentences"),
    [
        ("It is good. It is bad.", ["it is good .", "it is bad ."]),
        ("one.<br /><br />two<BR>three", ["one .", "two", "three"]),
        ("<i>Alien</i> is <b>good</b>.", ["alien is good ."]),
        ("What?! No!!! Why...", ["what ? !", "no !", "why ..."]),
        ("well... it works.", ["well ... it works ."]),
        ("Well... It works.", ["well ...", "it works ."]),
        ("so . . . it is", ["so ... it is"]),
        ("it was bad. i left.", ["it was bad .", "i left ."]),
        ("Good film.The end is not.", ["good film .", "the end is not ."]),
        ('He says "no." She left.', ['he says " no . "', "she left ."]),
        ('"Why?" he asked.', ['" why ? " he asked .']),
        ("(Bad.) Very bad.", ["( bad . )", "very bad ."]),
        ("Mr. Smith met Dr. No.", ["mr smith met dr no ."]),
        ("George W. Bush is in it.", ["george w bush is in it ."]),
        ("E.T. phones the U.S. Army.", ["et phones the us army ."]),
        ("Not for you and I. It hurts.", ["not for you and i .", "it hurts ."]),
        ("Robert Downey Jr. is good.", ["robert downey jr is good ."]),
        ("Actors etc. are fine.", ["actors etc are fine ."]),
        ("It lasts 1.5 hours. 7/10!", ["it lasts 1.5 hours .", "7/10 !"]),
        ("a well-made film, isn't it", ["a well-made film , isn't it"]),
        ("bad --- very &quot;bad&quot;", ['bad - very " bad "']),
        ("its _best_ part", ["its _ best _ part"]),
        ("fine\x85 It\x92s \x93art\x94", ["fine ...", 'it\'s " art "']),
        ("café cafe\u0301 ÉTÉ", ["café café été"]),
        ("  spaces\tand\nlines  ", ["spaces and lines"]),
        ("!!! ... ***", []),
        ("", []),
    ],
)
def test_sentences_of_a_review(review, sentences):
    assert cut(review) == sentences


@pytest.mark.parametrize("max_words", [1, 3, 8])
def test_words_are_counted_without_punctuation(max_words):
    words = ", ".join(["word"] * max_words)
    assert cut(words, max_words) == [words.replace(",", " ,")]
    assert cut(words + " more", max_words) == []


def test_punctuation_does_not_make_sentences_long():
    assert cut("* / * / word", 2) == []
    assert cut("* / * word", 2) == ["* / * word"]


def test_the_vectorizer_finds_the_same_words():
    review = "It isn't 2.5-hour well-made_film 7/10... give 'em -- $5, “très” 1/1/2002!"
    (sentence,) = cut(review, 99)
    words = SequenceVectorizer().fit([sentence]).vocabulary_
    assert set(words) == set(sentence.split(" "))


# What is returned


def test_archive_and_folder_hold_the_same(tmp_path, fetch, write):
    path = write(tmp_path / "reviews", encoded(REVIEWS))
    bunch = fetch(path=path)
    assert list(zip(bunch.review_id, bunch.data, strict=True)) == TRAIN
    assert_array_equal(bunch.target, [0, 0, 0, 1, 1])
    assert bunch.target_names == ["negative", "positive"]
    assert bunch.n_reviews == {"train/neg": 3, "train/pos": 1}
    assert "Maas" in bunch.DESCR
    copy = pickle.loads(pickle.dumps(bunch))
    assert copy.data == bunch.data


def test_the_folder_itself_will_do(tmp_path, fetch):
    path = write_folder(tmp_path, encoded(REVIEWS)) / "aclImdb"
    assert fetch(path=str(path)).data == [sentence for _, sentence in TRAIN]


@pytest.mark.parametrize(
    ("subset", "data", "target"),
    [
        ("train", [sentence for _, sentence in TRAIN], [0, 0, 0, 1, 1]),
        ("test", ["not good .", "not at all !", "great .", "loved it"], [0, 0, 1, 1]),
        ("unsup", ["who knows ?"], [-1]),
    ],
)
def test_subsets(archive, fetch, subset, data, target):
    bunch = fetch(path=archive, subset=subset)
    assert bunch.data == data
    assert_array_equal(bunch.target, target)
    whole = fetch(path=archive, subset="all")
    inside = [i in set(bunch.review_id) for i in whole.review_id]
    assert list(np.array(whole.data)[inside]) == data
    assert len(whole.data) == 10
    assert sum(whole.n_reviews.values()) == 7


def test_max_words(archive, fetch):
    assert fetch(path=archive, max_words=1).data == ["bad ..."]
    assert len(fetch(path=archive, max_words=12).data) == 7


def test_return_X_y(archive, fetch):
    bunch = fetch(path=archive)
    data, target = fetch(path=archive, return_X_y=True)
    assert data == bunch.data
    assert_array_equal(target, bunch.target)


def test_no_short_sentence_is_no_error(tmp_path, fetch):
    reviews = {name: "." for name in REVIEWS}
    data, target = fetch(
        path=write_archive(tmp_path / "a", encoded(reviews)), return_X_y=True
    )
    assert data == []
    assert target.shape == (0,)
    assert target.dtype.kind == "i"


def test_other_numbers_of_reviews_are_warned_of(archive, home):
    message = COUNTS + r", but 3 in train/neg \(not 12500\), 1 in train/pos .*Give the"
    for _ in range(2):  # from the cache, too
        with pytest.warns(UserWarning, match=message) as record:
            fetch_imdb_sentences(data_home=home, path=archive)
        assert record[0].filename == __file__


def test_official_numbers_are_not(archive, home, monkeypatch):
    monkeypatch.setattr(imdb, "_N_REVIEWS", {"train/neg": 3, "train/pos": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fetch_imdb_sentences(data_home=home, path=archive)


# The cache


def test_second_call_reads_the_cache(tmp_path, fetch, write, nothing_is_read):
    path = write(tmp_path / "reviews", encoded(REVIEWS))
    first = fetch(path=path)
    nothing_is_read()
    second = fetch(path=path)
    assert first.keys() == second.keys()
    for name in first:
        assert_array_equal(first[name], second[name])
    with pytest.raises(AssertionError, match="read again"):
        fetch(path=path, max_words=7)
    with pytest.raises(AssertionError, match="read again"):
        fetch(path=path, subset="test")


def test_cache_follows_the_content(tmp_path, fetch, write):
    path = tmp_path / "reviews"
    assert fetch(path=write(path, encoded(REVIEWS))).data[0] == "bad ..."
    changed = encoded({**REVIEWS, "train/neg/0_3": "Worse than that."})
    assert fetch(path=write(path, changed)).data[0] == "worse than that ."


@pytest.mark.parametrize(
    "damage", [b"", b"{}", gzip.compress(b"{")], ids=["empty", "not gzip", "not json"]
)
def test_broken_cache_is_made_anew(archive, fetch, home, damage):
    data = fetch(path=archive).data
    (cache,) = home.rglob("*.json.gz")
    cache.write_bytes(damage)
    with pytest.warns(UserWarning, match=r"cache file .* cannot be read .* made anew"):
        assert fetch(path=archive).data == data
    cache.write_bytes(cache.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="cannot be read"):
        assert fetch(path=archive).data == data
    assert fetch(path=archive).data == data


@pytest.mark.parametrize("crash", [KeyboardInterrupt, OSError("disk full")])
def test_a_crash_leaves_no_cache(archive, fetch, home, monkeypatch, crash):
    def dump(content, file, **kwargs):
        file.write('{"data": [')
        file.flush()
        raise crash

    with monkeypatch.context() as patch:
        patch.setattr(imdb.json, "dump", dump)
        with pytest.raises((KeyboardInterrupt, OSError)):
            fetch(path=archive)
    assert list((home / "imdb_sentences").iterdir()) == []
    assert fetch(path=archive).data


def test_cache_appears_at_once(archive, fetch, home, monkeypatch):
    replaced = []

    def replace(source, target):
        assert not target.exists()
        replaced.append(target.name)
        with gzip.open(source) as file:  # whole before it has its name
            assert file.read().endswith(b"}")
        os.rename(source, target)

    monkeypatch.setattr(imdb.os, "replace", replace)
    fetch(path=archive)
    assert files_below(home) == replaced
    assert len(replaced) == 1


# Broken sources


def expect_refusal(error, message, fetch, home, **arguments):
    with pytest.raises(error, match=message):
        fetch(**arguments)
    assert files_below(home) == []


@pytest.mark.parametrize("kept", [0, 5, 0.3, 0.7, -9, -1])
def test_truncated_archive(archive, fetch, home, kept):
    content = archive.read_bytes()
    archive.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else kept])
    message = r"reviews.tar.gz cannot be read as a tar.gz archive.*Download it again"
    expect_refusal(OSError, message, fetch, home, path=archive)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_damaged_archive(archive, fetch, home, place):
    content = bytearray(archive.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    archive.write_bytes(content)
    expect_refusal(OSError, "cannot be read as a tar.gz", fetch, home, path=archive)


def test_archive_truncated_before_compression(archive, fetch, home):
    tar = gzip.decompress(archive.read_bytes())
    start = tar.index(b"aclImdb/train/neg/10_1.txt")
    for length in (512, 520):  # without its content, or with a part of it
        archive.write_bytes(gzip.compress(tar[: start + length]))
        expect_refusal(OSError, "cannot be read as a tar", fetch, home, path=archive)


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no archive" * 99)],
    ids=["empty", "not gzip", "not tar"],
)
def test_something_else_than_an_archive(tmp_path, fetch, home, content):
    (tmp_path / "other").write_bytes(content)
    message = "other cannot be read as a tar.gz"
    expect_refusal(OSError, message, fetch, home, path=tmp_path / "other")


@pytest.mark.parametrize("missing", ["train/neg", "train/pos"])
def test_missing_folder(tmp_path, fetch, home, write, missing):
    reviews = {k: text for k, text in REVIEWS.items() if not k.startswith(missing)}
    (tmp_path / "reviews/aclImdb/train/pos").mkdir(parents=True)
    path = tmp_path / ("reviews" if write is write_folder else "reviews.tar.gz")
    path = write(path, encoded(reviews))
    message = (
        rf"has no reviews in {missing}: files like aclImdb/{missing}/0_9.txt .*Give"
    )
    expect_refusal(ValueError, message, fetch, home, path=path)
    assert fetch(path=path, subset="test").data


def test_empty_folder(tmp_path, fetch, home):
    (tmp_path / "empty").mkdir()
    message = "has no reviews in train/neg, train/pos"
    expect_refusal(ValueError, message, fetch, home, path=tmp_path / "empty")


def test_review_that_is_not_text(tmp_path, fetch, home, write):
    files = {**encoded(REVIEWS), "aclImdb/train/pos/0_9.txt": b"caf\xe9"}
    path = write(tmp_path / "reviews", files)
    message = r"train/pos/0_9.txt in .*reviews is not UTF-8 text .*Download"
    expect_refusal(ValueError, message, fetch, home, path=path)


def test_review_that_cannot_be_read(tmp_path, fetch, home):
    path = write_folder(tmp_path / "reviews", encoded(REVIEWS))
    (path / "aclImdb/train/pos/7_7.txt").mkdir()
    message = r"The review .*7_7.txt cannot be read .*Mend the folder"
    expect_refusal(OSError, message, fetch, home, path=path)


def test_path_that_does_not_exist(tmp_path, fetch, home):
    message = r"path='.*nowhere' does not exist\. Give the archive"
    expect_refusal(OSError, message, fetch, home, path=tmp_path / "nowhere")


# Downloading


def test_download_once(site, home, nothing_is_read):
    data = fetch_imdb_sentences(data_home=home).data
    assert data == [sentence for _, sentence in TRAIN]
    assert len(files_below(home)) == 2  # archive and cache
    site.unlink()
    # another subset needs the archive, but no second download
    other = fetch_imdb_sentences(
        data_home=home, subset="test", download_if_missing=False
    )
    assert other.data[-1] == "loved it"
    (home / "imdb_sentences" / imdb._FILENAME).unlink()
    nothing_is_read()
    again = fetch_imdb_sentences(data_home=home, download_if_missing=False)
    assert again.data == data


def test_the_official_archive_shares_its_cache(site, fetch, home, nothing_is_read):
    data = fetch(path=site).data
    nothing_is_read()
    assert fetch_imdb_sentences(data_home=home).data == data


def test_data_home_is_that_of_scikit_learn(site, home, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(home))
    fetch_imdb_sentences()
    assert (home / "imdb_sentences" / imdb._FILENAME).is_file()


def test_nothing_is_downloaded_if_not_wanted(site, fetch, home):
    message = r"Data not found .* download_if_missing is False.*path"
    expect_refusal(OSError, message, fetch, home, download_if_missing=False)
    broken = home / "imdb_sentences" / imdb._FILENAME
    broken.write_bytes(b"half an archive")
    with pytest.raises(OSError, match=message):
        fetch(download_if_missing=False)


def test_broken_archive_in_data_home_is_replaced(site, fetch, home):
    broken = home / "imdb_sentences" / imdb._FILENAME
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half an archive")
    with pytest.warns(UserWarning, match="re-downloading"):
        assert len(fetch().data) == len(TRAIN)
    assert broken.read_bytes() == site.read_bytes()


@pytest.mark.parametrize("kept", [-1, 0])
def test_wrong_checksum(site, fetch, home, kept):
    site.write_bytes(site.read_bytes()[:kept])
    message = r"could not be downloaded \(The SHA256 checksum .*other means .* path"
    expect_refusal(OSError, message, fetch, home)


def test_site_that_does_not_answer(site, fetch, home):
    site.unlink()
    with pytest.warns(UserWarning, match="Retry") as record:
        expect_refusal(
            OSError, "could not be downloaded", fetch, home, n_retries=2, delay=1e-3
        )
    assert len(record) == 2


def test_official_archive_is_the_one_published():
    assert imdb._URL.startswith("https://ai.stanford.edu/~amaas/data/sentiment/")
    assert imdb._URL.endswith(imdb._FILENAME)
    assert re.fullmatch("[0-9a-f]{64}", imdb._CHECKSUM)
    assert sum(imdb._N_REVIEWS.values()) == 100_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": "validation"}, r"subset.*'unsup'.*Got 'validation'"),
        ({"max_words": 0}, r"max_words.*\[1, inf\).*Got 0"),
        ({"max_words": 8.0}, r"max_words.*Got 8.0"),
        ({"path": 3}, r"path.*Got 3"),
        ({"data_home": 3}, r"data_home.*Got 3"),
        ({"download_if_missing": "no"}, r"download_if_missing.*Got 'no'"),
        ({"return_X_y": 2}, r"return_X_y.*Got 2"),
        ({"n_retries": 0}, r"n_retries.*Got 0"),
        ({"delay": 0.0}, r"delay.*Got 0.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch_imdb_sentences(**arguments)
