"""p(x|z), q(z|x) and r_omega(z|x) for sequences of words (paper, section 7.3).

A row x_1 .. x_T holds word indices, one end mark, then pads: ``PAD`` 0, ``UNKNOWN`` 1,
``END`` 2, words from 3. The model p_theta(x|z) = prod_t p_theta(x_t|x_<t, z) is an LSTM
that receives z and a hidden layer of it at each step, at the first places by maps of
their own; column T can hold nothing but the end mark, so the probabilities of all rows
sum to one.

The information posterior is a *filter*: besides r_omega(z|x) it has r_omega(z|x_1..x_t)
for each prefix, from which the gradient of I credits each token with what it says about
z (``gradients.PerEntry``).

No figure depends on the number of pads. Pads follow the end mark; every network reads a
row up to its end mark, or backwards from there; and sums leave their places out.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from sklearn_mae.families.base import Likelihood
from sklearn_mae.families.filtering import FilteredNormal, filter_objective
from sklearn_mae.gradients import PerEntry, Reinforce
from sklearn_mae.model import (
    MAX_OUTCOMES,
    Cost,
    LatentVariableModel,
    PrivateDistribution,
    Rows,
    normal_of,
)
from sklearn_mae.text import END, PAD, UNKNOWN

__all__ = [
    "SequenceDistribution",
    "SequenceFilter",
    "SequenceLikelihood",
    "SequenceReader",
]

# places that have a map of their own; the LSTMs alone know those after them
N_PLACES = 32
# numbers held at once where no gradient has to be kept
NUMBERS_AT_ONCE = 4_000_000
# Many rows are sorted by length and read in so many parts, each as long as its longest.
# Parts of fewer rows cost more than the pads that they leave out.
PARTS, FEWEST_ROWS = 4, 256


class Recurrent(nn.Module):
    """Stack of LSTMs of any sizes.

    Parameters
    ----------
    n_inputs : int
        Numbers in each step's input.
    sizes : sequence of int
        Units of each layer.
    """

    def __init__(self, n_inputs: int, sizes: Sequence[int]):
        super().__init__()
        pairs = itertools.pairwise([n_inputs, *sizes])
        self.layers = nn.ModuleList(
            nn.LSTM(before, after, batch_first=True) for before, after in pairs
        )

    def train(self, mode: bool = True):
        """Stay in training mode: cuDNN takes no gradient of an LSTM in any other."""
        return super().train()

    def forward(self, inputs: Tensor, states=None):
        """Return the last layer's outputs (n, T, H) and the states of all layers."""
        states = [None] * len(self.layers) if states is None else states
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            inputs, state = layer(inputs, state)
            after.append(state)
        return inputs, after


def _used(x: Tensor) -> Tensor:
    """Cut off the columns that hold pads alone, of rows (n, T)."""
    return x[:, : max(1, int((x != PAD).any(0).sum()))]


def _by_length(x: Tensor, most: int, codes: int = 1) -> Sequence[Tensor | slice]:
    """Part rows (n, T), so that those of a part are about as long: their numbers.

    Each row is read with so many codes, ``most`` at once.
    """
    rows = max(FEWEST_ROWS // codes, -(-len(x) // PARTS))
    rows = max(1, min(rows, most // codes))
    if len(x) <= rows:
        return [slice(None)]
    return (x != PAD).sum(1).argsort(stable=True).split(rows)


def _places(length: int, n_inputs: int, n_outputs: int) -> nn.Parameter:
    """Return the weights of a linear map for each place, which begin at zero."""
    return nn.Parameter(torch.zeros(min(length, N_PLACES), n_inputs, n_outputs))


class SequenceDistribution(PrivateDistribution):
    """Distribution over rows of word indices, one for each code.

    Parameters
    ----------
    likelihood : SequenceLikelihood
        The decoder.
    z : Tensor of shape (..., d)
        Codes.
    """

    has_rsample = False

    def __init__(self, likelihood: "SequenceLikelihood", z: Tensor):
        self.likelihood, self.z = likelihood, z
        super().__init__(z.shape[:-1], torch.Size([likelihood.length]))

    def inside(self, value) -> Tensor:
        """Where rows hold tokens, shape (..., T), bool."""
        return value != PAD

    def log_prob(self, value):
        """Log-probability of rows."""
        return self.entry_log_prob(value).sum(-1)

    def entry_log_prob(self, value):
        """Log p(x_t|x_<t, z) of each token, shape (..., T); 0 where there is none."""
        shape = torch.broadcast_shapes(self.batch_shape, value.shape[:-1])
        x = value.expand(*shape, -1).reshape(-1, value.shape[-1])
        z = self.z.expand(*shape, -1).reshape(len(x), -1)
        most = len(x)
        if not torch.is_grad_enabled():
            most = NUMBERS_AT_ONCE // (x.shape[1] * self.likelihood.n_words)
        found = z.new_zeros(x.shape)
        for part in _by_length(x, most):
            used = _used(x[part])
            log_probs = self.likelihood.token_log_probs(used, z[part])
            found[part, : used.shape[1]] = log_probs
        return found.reshape(*shape, -1)

    def sample(self, sample_shape=(), generator=None):
        """Draw rows, word by word."""

        def choose(log_probs):
            u = torch.rand(
                (len(log_probs), 1),
                generator=generator,
                dtype=log_probs.dtype,
                device=log_probs.device,
            )
            below = log_probs.exp().cumsum(-1) < u
            # rounding may leave the last cumulated probability below u
            return below.sum(-1).clamp_max(log_probs.shape[-1] - 1)

        return self._generate(choose, sample_shape)

    @property
    def mode(self):
        """Rows of the most probable next words: greedy decoding."""
        return self._generate(lambda log_probs: log_probs.argmax(-1), ())

    @torch.no_grad()
    def _generate(self, choose, sample_shape):
        likelihood = self.likelihood
        shape = torch.Size((*sample_shape, *self.batch_shape))
        z = self.z.expand(*shape, -1).reshape(shape.numel(), -1)
        x = torch.full((len(z), likelihood.length), PAD, device=z.device)
        open_rows = torch.arange(len(z), device=z.device)
        word, states = x[:, 0], None
        for t in range(likelihood.length - 1):
            hidden, states = likelihood.read(word.unsqueeze(1), z, states, t)
            # the first of the outputs is the index after PAD
            word = 1 + choose(log_softmax(likelihood.output(hidden[:, 0]), -1))
            x[open_rows, t] = word
            # (one list of them: each mask would make an accelerator wait)
            going_on = (word != END).nonzero()[:, 0]
            if not len(going_on):
                break
            if len(going_on) < len(word):
                open_rows, z, word = open_rows[going_on], z[going_on], word[going_on]
                states = [tuple(s[:, going_on] for s in state) for state in states]
        else:
            x[open_rows, -1] = END
        return x.reshape(*shape, -1)


class SequenceLikelihood(Likelihood):
    """LSTM decoder that receives z at each step, before and after the LSTM.

    After it z comes through a linear map of each of the first places' own: the LSTM
    would have to count before it could tell which word a code asks for at which place,
    and learns to use a code several times as slowly. LSTM and maps get z and a hidden
    layer of it, with as many units as an embedding has, side by side: through linear
    maps alone few components tell words apart poorly.

    Parameters
    ----------
    n_words : int
        Number of indices, those of the marks included.
    length : int
        Columns T of a row; its last can hold nothing but the end mark.
    hidden_layer_sizes : sequence of int
        Size of the words' embeddings, then of each LSTM layer.
    n_components : int
        Dimension d of the code.
    """

    # A decode is a pass of the LSTM over a whole row, and gradients keep every word's
    # probability.
    cost = Cost(
        many_codes=False,
        rows_with_gradients=64,
        budget=500_000,
        fit_budget=200_000,
        fit_samples=500,
        rated_rows=500,
        refinement=0.25,
    )

    def __init__(self, n_words, length, hidden_layer_sizes, n_components):
        super().__init__()
        embedding, *sizes = hidden_layer_sizes
        self.n_words, self.length, self.n_features = n_words, length, length
        # pads are never read: their index is the start mark's
        self.embedding = nn.Embedding(n_words, embedding)
        self.code_layer = nn.Linear(n_components, embedding)
        n_inputs = n_components + embedding
        self.recurrent = Recurrent(embedding + n_inputs, sizes)
        self.places = _places(length - 1, n_inputs, embedding)
        self.output = nn.Linear(sizes[-1] + embedding, n_words - 1)

    def forward(self, z: Tensor, given: Tensor | None = None) -> SequenceDistribution:
        """Return p(x|z)."""
        return SequenceDistribution(self, z)

    def read(self, words: Tensor, z: Tensor, states=None, start: int = 0):
        """Return what is known after each of the words (n, T), and the LSTM's states.

        Known is what the LSTM holds, and what z says of the places from ``start`` on:
        shape (n, T, H + E).
        """
        code = torch.cat([z, self.code_layer(z).tanh()], -1)
        codes = code.unsqueeze(1).expand(-1, words.shape[1], -1)
        inputs = torch.cat([self.embedding(words), codes], -1)
        hidden, states = self.recurrent(inputs, states)
        places = self.places[start : start + words.shape[1]]
        of_code = torch.einsum("nd,tde->nte", code, places)
        of_code = nn.functional.pad(of_code, (0, 0, 0, words.shape[1] - len(places)))
        return torch.cat([hidden, of_code], -1), states

    def _before_tokens(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """What is known before chosen tokens (m, H + E), and their places in x (m,)."""
        start = torch.full_like(x[:, :1], PAD)
        hidden, _ = self.read(torch.cat([start, x[:, :-1]], 1), z)
        chosen = x != PAD
        chosen[:, self.length - 1 :] = False
        places = chosen.flatten().nonzero()[:, 0]
        return hidden.flatten(0, 1).index_select(0, places), places

    def token_log_probs(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x_t|x_<t, z) of rows (n, T) and codes (n, d), shape (n, T)."""
        hidden, places = self._before_tokens(x, z)
        words = x.flatten()[places]
        log_probs = -cross_entropy(self.output(hidden), words - 1, reduction="none")
        found = log_probs.new_zeros(x.numel()).index_copy(0, places, log_probs)
        return found.view(x.shape)

    def outcomes(self) -> Tensor | None:
        """All rows, or None where they are too many."""
        others = [UNKNOWN, *range(END + 1, self.n_words)]
        if sum(len(others) ** n for n in range(self.length)) > MAX_OUTCOMES:
            return None
        rows = [
            [*words, END, *[PAD] * (self.length - 1 - n)]
            for n in range(self.length)
            for words in itertools.product(others, repeat=n)
        ]
        return torch.tensor(rows, device=self.output.weight.device)

    def decode(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        """Rows of the most probable next words, one after the other."""
        return self(z).mode

    def score_gradient(self, model: LatentVariableModel, plain: bool):
        """Credit each word on its own."""
        if plain:
            return Reinforce(leave_one_out=False)
        return PerEntry(model.posterior, model.prior)

    @torch.no_grad()
    def fisher_information(self, z: Tensor, x=None) -> Tensor:
        """What the next words tell about z, given the prefixes of x: (n, d, d).

        Sum over t of E[score score'] of p(x_t|x_<t, z), whose mean over x is the Fisher
        information. From differences along each axis, which decode each row d + 1
        times: exact to a few parts in a thousand.
        """
        d = z.shape[-1]
        x = Rows.of(x).values
        step = 1e-3 if z.dtype == torch.float64 else 1e-2
        shifts = step * torch.eye(d + 1, d, dtype=z.dtype, device=z.device).roll(1, 0)
        shifts[0] = 0
        total = z.new_zeros(len(x), d, d)
        most = NUMBERS_AT_ONCE // (x.shape[1] * self.n_words)
        for part in _by_length(x, most, codes=d + 1):
            some = _used(x[part])
            n = len(some)
            words = some.repeat(d + 1, 1)
            codes = (z[part] + shifts.unsqueeze(1)).flatten(0, 1)
            hidden, places = self._before_tokens(words, codes)
            log_probs = log_softmax(self.output(hidden), -1).unflatten(0, (d + 1, -1))
            slopes = (log_probs[1:] - log_probs[0]) / step
            slopes = (slopes * (0.5 * log_probs[0]).exp()).movedim(0, 1)  # (m, d, V)
            row = places[: len(slopes)] // some.shape[1]
            of_part = slopes.new_zeros(n, d, d).index_add(0, row, slopes @ slopes.mT)
            total[part] = of_part
        return total.double()


class SequenceReader(nn.Module):
    """Bidirectional LSTM from rows of word indices to a few numbers.

    Beside it a linear map of each of the first places' own reads the words.

    Parameters
    ----------
    n_words : int
        Number of indices.
    length : int
        Columns T of a row.
    hidden_layer_sizes : sequence of int
        Size of the words' embeddings, then of each LSTM layer.
    n_outputs : int
        How many numbers.
    """

    def __init__(self, n_words, length, hidden_layer_sizes, n_outputs):
        super().__init__()
        embedding, *sizes = hidden_layer_sizes
        self.embedding = nn.Embedding(n_words, embedding)
        self.places = _places(length, embedding, 2 * sizes[-1])
        self.forwards = Recurrent(embedding, sizes)
        self.backwards = Recurrent(embedding, sizes)
        self.output = nn.Linear(2 * sizes[-1], n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers of shape (..., n_outputs) for rows (..., T)."""
        pooled, _ = self.read(_used(x.flatten(0, -2)))
        return self.output(pooled).unflatten(0, x.shape[:-1])

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what was read of whole rows (n, 2 H), and of prefixes (n, T, H)."""
        inside = x != PAD
        length = inside.sum(1, keepdim=True)
        # the way back starts at each row's own end, so that pads come last here, too
        position = torch.arange(x.shape[1], device=x.device)
        turned = x.gather(1, (length - 1 - position).clamp_min(0))
        words = self.embedding(x)
        prefixes, _ = self.forwards(words)
        suffixes, _ = self.backwards(self.embedding(turned))
        both = torch.cat([prefixes, suffixes], -1)
        outside = ~inside.unsqueeze(-1)
        pooled = both.masked_fill(outside, -torch.inf).amax(1)
        words = words.masked_fill(outside, 0.0)[:, : len(self.places)]
        places = self.places[: x.shape[1]]
        return pooled + torch.einsum("nte,teh->nh", words, places).tanh(), prefixes


class SequenceFilter(nn.Module):
    """r_omega for sequences: bidirectional for whole rows, forwards for prefixes.

    Parameters
    ----------
    reader : SequenceReader
        With 2 d outputs.
    n_given : int
        Numbers that it may be given besides rows.
    """

    def __init__(self, reader: SequenceReader, n_given: int = 0):
        super().__init__()
        self.reader = reader
        width, n_outputs = reader.output.in_features // 2, reader.output.out_features
        self.prefix_output = nn.Linear(width, n_outputs)
        if n_given:
            # what is given turns what was read before the outputs see it
            self.gain = nn.Linear(n_given, width)

    def forward(self, x: Tensor, given: Tensor | None = None) -> FilteredNormal:
        """Return r(z|x), or with what is given besides r(z|x, g)."""
        shape = x.shape[:-1]
        used = _used(x.flatten(0, -2))
        pooled, prefixes = self.reader.read(used)
        if given is not None:
            gain = self.gain(given.flatten(0, -2).to(pooled)).exp()
            pooled = pooled * gain.repeat(1, 2)
            prefixes = prefixes * gain.unsqueeze(1)
        pads = x.shape[-1] - used.shape[1]
        prefixes = nn.functional.pad(self.prefix_output(prefixes), (0, 0, 0, pads))
        whole = normal_of(self.reader.output(pooled).unflatten(0, shape))
        return FilteredNormal(whole, normal_of(prefixes.unflatten(0, shape)), x != PAD)

    def objective(self, r: FilteredNormal, z: Tensor) -> Tensor:
        """What omega maximises: log r(z|x), plus its mean over the row's prefixes."""
        return filter_objective(r, z)
