"""Short sentences of film reviews, from the Large Movie Review Dataset.

Reviews are read from an archive, which is not unpacked, or from a folder. All are
checked before anything is cached. A cache file is written whole or not at all.
"""

import gzip
import hashlib
import html
import json
import os
import re
import tarfile
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.datasets import fetch_file, get_data_home
from sklearn.utils import Bunch
from sklearn.utils._param_validation import validate_params

from sklearn_mae.parameters import Number, OneOf

__all__ = ["fetch_imdb_sentences"]

_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
_FILENAME = "aclImdb_v1.tar.gz"
_CHECKSUM = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"

_N_REVIEWS = {
    "test/neg": 12_500,
    "test/pos": 12_500,
    "train/neg": 12_500,
    "train/pos": 12_500,
    "train/unsup": 50_000,
}
_FOLDERS = {
    "train": ["train/neg", "train/pos"],
    "test": ["test/neg", "test/pos"],
    "unsup": ["train/unsup"],
    "all": list(_N_REVIEWS),
}
_TARGETS = {"neg": 0, "pos": 1, "unsup": -1}

_MEMBER = re.compile(
    r"(?:\./)?(?:aclImdb/)?((?:train|test)/(?:neg|pos|unsup))/(\d+_\d+\.txt)"
)
_REVIEW = re.compile(r"\d+_\d+\.txt")

# Part of a cache file's name: increase it when the rules below change.
_RULES_VERSION = 1

_LINE_BREAK = re.compile(r"<\s*/?\s*(?:br|p|hr)\s*/?\s*>", re.IGNORECASE)
_MARKUP = re.compile(r"</?(?:b|em|i|strong|u)>", re.IGNORECASE)
# Some reviews are Windows-1252 text decoded as Latin-1; 0x80 to 0x9f differ.
_CP1252_CHARACTERS = {
    code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)
}
_ASCII_PUNCTUATION = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "´": "'",
        "`": "'",
        "“": '"',
        "”": '"',
        "…": "...",
        "–": "-",
        "—": "-",
    }
)
_ELLIPSIS = re.compile(r"\.(?:\s*\.)+")
_REPEATED_PUNCTUATION = re.compile(r"([^\w\s.]|_)\1+")
_ABBREVIATION = re.compile(
    r"\b(?:(?:(?i:mr|mrs|ms|dr|prof|vs)|St|Lt|Sgt|Capt|Col|Gen|Rev)\."
    r"|(?:[A-Z]\.){2,}"
    r"|[A-HJ-Z]\.(?=\s[A-Z])"  # an initial; "I." ends a sentence
    r"|(?:[JS]r|etc|e\.g|i\.e)\.(?=\W*[a-z]))"
)
_SENTENCE_END = re.compile(
    r"""(?:
        (?:\.\.\.|[.!?]+["')\]]+)(?=\s[^a-z])    # not before a small letter
        | [.!?]*(?:[!?]|(?<!\.)\.)(?=\s)
        | (?<=[a-z])[.!?]+(?=[A-Z][a-z\s])       # the space is missing
    )""",
    re.VERBOSE,
)
# As SequenceVectorizer by default, so that it splits sentences into the same words.
_TOKEN = re.compile(
    r"\d+(?:[.,:/]\d+)+|[^\W_]+(?:['-][^\W_]+)*|\.\.\.|[^\w\s]|_"  # 9/10, don't, ...
)

_DESCR = """\
Short sentences of the Large Movie Review Dataset

Reviews of films from the Internet Movie Database (IMDB), 25,000 to train and 25,000 to
test, half of either positive (7 to 10 of 10 stars) and half negative (1 to 4), and
50,000 without a label, as A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng and
C. Potts published them with "Learning Word Vectors for Sentiment Analysis", ACL 2011
(https://ai.stanford.edu/~amaas/data/sentiment/). Here the reviews are cut into
sentences, of which the short ones are kept, in lower case, words and punctuation marks
separated by single spaces. The label is that of the whole review.
"""


def _short_sentences(review: str, max_words: int) -> Iterator[str]:
    """Yield the sentences of a review that have 1 to max_words words."""
    text = unicodedata.normalize("NFC", review.translate(_CP1252_CHARACTERS))
    text = _MARKUP.sub("", html.unescape(text)).translate(_ASCII_PUNCTUATION)
    for line in _LINE_BREAK.split(text):
        line = _ELLIPSIS.sub("...", " ".join(line.split()))
        line = _ABBREVIATION.sub(lambda match: match[0].replace(".", ""), line)
        line = _REPEATED_PUNCTUATION.sub(r"\1", line)
        for sentence in _SENTENCE_END.sub("\\g<0>\n", line).split("\n"):
            tokens = _TOKEN.findall(sentence.lower())
            n_words = sum(token[0].isalnum() for token in tokens)
            # a row of asterisks is no short sentence
            if 1 <= n_words <= max_words and len(tokens) <= 2 * max_words:
                yield " ".join(tokens)


def _review_files(path: Path, folders: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield folder and file of the reviews below an unpacked archive."""
    root = path / "aclImdb" if (path / "aclImdb").is_dir() else path
    for folder in folders:
        if (root / folder).is_dir():
            for file in sorted((root / folder).iterdir()):
                if _REVIEW.fullmatch(file.name):
                    yield folder, file


def _read_folder(
    path: Path, folders: Iterable[str]
) -> Iterator[tuple[str, str, bytes]]:
    """Yield folder, file name and content of the reviews of an unpacked archive."""
    for folder, file in _review_files(path, folders):
        try:
            yield folder, file.name, file.read_bytes()
        except OSError as error:
            raise OSError(
                f"The review {file} cannot be read ({error}). Mend the folder or give "
                f"the archive {_FILENAME} as path."
            ) from error


def _read_archive(
    path: Path, folders: Iterable[str]
) -> Iterator[tuple[str, str, bytes]]:
    """Yield folder, file name and content of the reviews in an archive."""
    try:
        with (
            gzip.open(path) as stream,
            # tarfile's own decompression does not report a truncated file
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                match = _MEMBER.fullmatch(member.name)
                if match and match[1] in folders:
                    content = archive.extractfile(member)
                    if content is not None:
                        yield match[1], match[2], content.read()
            while stream.read(2**20):  # the checksum is at the end
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise OSError(
            f"{path} cannot be read as a tar.gz archive: it is broken, incomplete or "
            f"something else ({error}). Download it again from {_URL}."
        ) from error


def _extract(path: Path, folders: list[str], max_words: int) -> dict[str, Any]:
    """Cut the reviews of an archive or folder into sentences."""
    read = _read_folder if path.is_dir() else _read_archive
    n_reviews = dict.fromkeys(folders, 0)
    found = []
    for folder, name, content in read(path, folders):
        n_reviews[folder] += 1
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{folder}/{name} in {path} is not UTF-8 text ({error}). Download the "
                f"archive again from {_URL}."
            ) from error
        review_id = f"{folder}/{name.removesuffix('.txt')}"
        found += [(review_id, text) for text in _short_sentences(text, max_words)]
    missing = [folder for folder, n in n_reviews.items() if n == 0]
    if missing:
        raise ValueError(
            f"{path} has no reviews in {', '.join(missing)}: files like "
            f"aclImdb/{missing[0]}/0_9.txt were expected. Give the archive {_FILENAME} "
            "or the folder aclImdb that comes out of it as path."
        )
    found.sort(key=lambda pair: pair[0])  # archives have another order than folders
    return {
        "n_reviews": n_reviews,
        "review_id": [review_id for review_id, _ in found],
        "data": [sentence for _, sentence in found],
    }


def _digest(path: Path, folders: list[str]) -> str:
    """Return a hash that identifies the content of an archive or folder."""
    if not path.is_dir():
        with path.open("rb") as archive:
            return hashlib.file_digest(archive, "sha256").hexdigest()
    # reading all texts would take as long as the work that the cache saves
    stamps = hashlib.sha256()
    for folder, file in _review_files(path, folders):
        status = file.stat()
        stamp = (folder, file.name, status.st_size, status.st_mtime_ns)
        stamps.update(repr(stamp).encode())
    return stamps.hexdigest()


def _download(
    home: Path, download_if_missing: bool, n_retries: int, delay: float
) -> Path:
    """Return the path of the official archive; download it if it is missing."""
    archive = home / _FILENAME
    if not download_if_missing and not (
        archive.is_file() and _digest(archive, []) == _CHECKSUM
    ):
        raise OSError(
            f"Data not found in {home} and download_if_missing is False. Set it to "
            f"True, or give the archive {_FILENAME} as path."
        )
    try:
        return fetch_file(
            _URL,
            folder=home,
            local_filename=_FILENAME,
            sha256=_CHECKSUM,
            n_retries=n_retries,
            delay=delay,
        )
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{_URL} could not be downloaded ({error}). Try again, or download it by "
            "other means and give its place as path."
        ) from error


def _load(cache: Path) -> dict[str, Any] | None:
    """Return the content of a cache file, None if it cannot be read."""
    if not cache.exists():
        return None
    try:
        with gzip.open(cache, "rt", encoding="utf-8") as file:
            return json.load(file)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        warnings.warn(
            f"The cache file {cache} cannot be read ({error}) and is made anew.",
            stacklevel=4,
        )
        return None


def _save(content: dict[str, Any], cache: Path) -> None:
    """Write a cache file, whole or not at all."""
    with TemporaryDirectory(dir=cache.parent) as folder:
        unfinished = Path(folder) / cache.name
        with gzip.open(unfinished, "wt", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
        os.replace(unfinished, cache)


@validate_params(
    {
        "data_home": [str, os.PathLike, None],
        "subset": [OneOf(*_FOLDERS)],
        "max_words": [Number(Integral, 1, None, closed="left")],
        "path": [str, os.PathLike, None],
        "download_if_missing": ["boolean"],
        "return_X_y": ["boolean"],
        "n_retries": [Number(Integral, 1, None, closed="left")],
        "delay": [Number(Real, 0, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def fetch_imdb_sentences(
    *,
    data_home: str | os.PathLike | None = None,
    subset: str = "train",
    max_words: int = 8,
    path: str | os.PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Bunch | tuple[list[str], np.ndarray]:
    """Load the short sentences of the Large Movie Review Dataset.

    Reviews are split at the ends of sentences and at line breaks. Sentences are in
    lower case, with single spaces between words and punctuation marks. A repeated mark
    is kept once, a run of dots as ``...``. Titles and initials lose their full stop,
    because it ends no sentence. Sentences of 1 to ``max_words`` words are kept, if they
    have at most twice ``max_words`` tokens, punctuation included. Duplicates are kept.

    The paper takes its sentences, "of length 8 words or shorter", from another
    collection of reviews of the same site (Diao et al. 2014). It says neither whether
    punctuation counts as words (those it prints have at most 8 tokens with it) nor how
    reviews were split, so this set resembles the paper's and is not the same.

    The archive (84 MB) is downloaded once into the folder ``imdb_sentences`` of the
    data directory, and its checksum is verified. The sentences are cached there for
    each subset and ``max_words``; the archive may be deleted afterwards.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder for download and cache. None stands for scikit-learn's data directory,
        see :func:`sklearn.datasets.get_data_home`.
    subset : {"train", "test", "unsup", "all"}, default="train"
        Reviews to take the sentences from: 25,000 with a label to train, 25,000 to
        test, the 50,000 without a label, or all of these.
    max_words : int, default=8
        Number of words of the longest sentence, punctuation not counted.
    path : str or path-like, default=None
        Archive ``aclImdb_v1.tar.gz``, or the folder unpacked from it, to read instead
        of a download. It need not be the official one; another number of reviews gives
        a warning.
    download_if_missing : bool, default=True
        If False, raise an OSError instead of downloading missing data.
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.
    n_retries : int, default=3
        Number of retries when the download fails.
    delay : float, default=1.0
        Seconds between retries.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        data : list of str
            The sentences, review by review, in the order of the reviews' names: all
            negative ones come first, so shuffle.
        target : ndarray of int of shape (n,)
            Label of each sentence's review: 1 positive, 0 negative, -1 none.
        target_names : list of str
            ``["negative", "positive"]``.
        review_id : ndarray of str of shape (n,)
            Each sentence's review, as ``"train/pos/0_9"``: number 0, 9 of 10 stars. Use
            them as groups for a split that keeps reviews whole.
        n_reviews : dict
            Number of reviews read from each folder, with and without short sentences.
        DESCR : str
            Where the data comes from.
    (data, target) : tuple if ``return_X_y`` is True
        Sentences and labels.

    Raises
    ------
    ValueError
        If an argument is out of its range, folders are missing or empty, or a review is
        not text.
    OSError
        If the archive cannot be found, downloaded or read, or is not the official one.

    Warns
    -----
    UserWarning
        If ``path`` does not have the official number of reviews, or a cache file is
        broken.

    References
    ----------
    Maas, Daly, Pham, Huang, Ng and Potts, "Learning Word Vectors for Sentiment
    Analysis", ACL 2011.

    Phuong, Welling, Kushman, Tomioka and Nowozin, "The Mutual Autoencoder:
    Controlling Information in Latent Code Representations", 2018, section 7.3.

    Examples
    --------
    >>> from sklearn_mae.datasets import fetch_imdb_sentences
    >>> bunch = fetch_imdb_sentences()  # doctest: +SKIP
    >>> bunch.target_names  # doctest: +SKIP
    ['negative', 'positive']
    """
    folders = _FOLDERS[subset]
    home = Path(get_data_home(data_home)) / "imdb_sentences"
    home.mkdir(exist_ok=True)
    source = None if path is None else Path(path).expanduser()
    if source is not None and not source.exists():
        raise FileNotFoundError(
            f"path={str(path)!r} does not exist. Give the archive {_FILENAME} or the "
            "folder that comes out of it, or None to download it."
        )

    digest = _CHECKSUM if source is None else _digest(source, folders)
    cache = home / f"{digest}-{subset}-{max_words}-rules{_RULES_VERSION}.json.gz"
    content = _load(cache)
    if content is None:
        if source is None:
            source = _download(home, download_if_missing, n_retries, delay)
        content = _extract(source, folders, max_words)
        _save(content, cache)

    n_reviews = content["n_reviews"]
    unofficial = [
        folder for folder in folders if n_reviews[folder] != _N_REVIEWS[folder]
    ]
    if path is not None and unofficial:
        counts = ", ".join(
            f"{n_reviews[folder]} in {folder} (not {_N_REVIEWS[folder]})"
            for folder in unofficial
        )
        warnings.warn(
            f"path={str(path)!r} does not have the official number of reviews, but "
            f"{counts}. Give the archive {_FILENAME} if it should be complete.",
            stacklevel=3,
        )
    data = content["data"]
    review_id = np.array(content["review_id"], dtype=object)
    target = np.array([_TARGETS[name.split("/")[1]] for name in review_id], dtype=int)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=["negative", "positive"],
        review_id=review_id,
        n_reviews=n_reviews,
        DESCR=_DESCR,
    )
