"""Guesses of unlabelled rows' classes: what they rest on, how labels travel."""

import numpy as np
import pytest
import torch

from sklearn_mae.model import Rows
from sklearn_mae.training import Guesses
from tests.test_blocks import TwoBlocks
from tests.toy_models import generator


class Blind(TwoBlocks):
    """Its first block tells nothing of the classes."""

    def __init__(self):
        super().__init__(0.0, 0.0)


def rings(n=200):
    """Two rings of rows, one within the other, with one labelled row each."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rows = np.concatenate(
        [r * np.column_stack([np.cos(angle), np.sin(angle)]) for r in (1.0, 3.0)]
    )
    classes = np.repeat([0, 1], n)
    labels = np.full(2 * n, -1)
    labels[[0, n]] = 0, 1
    return Rows(torch.as_tensor(rows).float()), torch.as_tensor(labels), classes


def test_labels_travel_along_near_rows(monkeypatch):
    from sklearn_mae.training import guesses as module

    x, labels, classes = rings()
    guesses = Guesses(x, labels, 2, generator())
    monkeypatch.setattr(module, "SPREADING", 2000)
    guesses.refresh(FirstOfTwo())

    expected = torch.as_tensor(classes)[guesses.rows]
    assert (guesses.classes == expected).all()
    assert guesses.probabilities.sum(1) == pytest.approx(1, abs=1e-4)


class FirstOfTwo(Blind):
    """Codes of two components from rows of two numbers."""

    def q(self, x):
        from sklearn_mae.model import DiagonalNormal

        return DiagonalNormal(0 * Rows.of(x).values, torch.zeros(2))


def test_known_rows_keep_their_labels():
    x, labels, _ = rings()
    guesses = Guesses(x, labels, 2, generator())
    guesses.refresh(FirstOfTwo())

    assert guesses.classes[guesses.known].tolist() == [0, 1]
    assert guesses.probabilities[guesses.known].max(1).values.tolist() == [1, 1]


def test_where_all_is_known_there_is_nothing_to_guess():
    x, _, classes = rings()
    guesses = Guesses(x, torch.as_tensor(classes), 2, generator())
    guesses.refresh(None)

    assert guesses.all_known
    assert (guesses.classes == torch.as_tensor(classes)[guesses.rows]).all()


def test_rows_that_are_no_vectors_are_guessed_one_by_one():
    class Words(FirstOfTwo):
        def seen(self, x):
            return Rows.of(x).values.long()

    x, labels, _ = rings()
    guesses = Guesses(x, labels, 2, generator())
    guesses.refresh(Words())

    unknown = guesses.probabilities[2:]
    assert unknown.flatten().tolist() == pytest.approx([0.5] * 796, abs=1e-6)


def test_many_rows_are_guessed_in_part(monkeypatch):
    from sklearn_mae.training import guesses as module

    monkeypatch.setattr(module, "MOST", 50)
    x, labels, _ = rings()
    guesses = Guesses(x, labels, 2, generator())
    guesses.refresh(FirstOfTwo())

    assert len(guesses.rows) == len(guesses.probabilities) == 52
    assert len(guesses.rows.unique()) == 52
