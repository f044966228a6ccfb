"""LSTMs of sequences: probabilities, draws, filters, and pads that reach no figure."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sklearn_mae.encoders import GaussianEncoder
from sklearn_mae.families import lstm
from sklearn_mae.families.lstm import (
    FilteredNormal,
    Recurrent,
    SequenceFilter,
    SequenceLikelihood,
    SequenceReader,
)
from sklearn_mae.model import DiagonalNormal, StandardNormal, private_random
from sklearn_mae.text import END, PAD, UNKNOWN
from tests.statistical import FALSE_ALARM
from tests.toy_models import generator, with_places

D_CODE, N_WORDS, LENGTH = 2, 5, 4
PRIOR = StandardNormal(D_CODE)
SIZES = (5, 7, 6)  # of embeddings and of two LSTMs
WORDS = (UNKNOWN, 3, 4)


def sharpened(module, by=3.0):
    """Random weights large enough for the output to depend on the input."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(by)
    return module.double()


def build_likelihood(length=LENGTH, n_words=N_WORDS, seed=0):
    with private_random(seed):
        return sharpened(
            with_places(SequenceLikelihood(n_words, length, SIZES, D_CODE))
        )


def build_reader():
    with private_random(1):
        return sharpened(
            with_places(SequenceReader(N_WORDS, 6, SIZES, 2 * D_CODE)), 2.0
        )


def build_encoder():
    return GaussianEncoder(build_reader())


def build_filter():
    with private_random(2):
        return sharpened(SequenceFilter(build_reader()), 1.0)


def codes(*shape, seed=3):
    return torch.randn(*shape, D_CODE, generator=generator(seed), dtype=torch.float64)


def row(*words, length=LENGTH):
    return [*words, END, *[PAD] * (length - 1 - len(words))]


# the empty one, the longest, an unknown word, a repeated one
ROWS = torch.tensor([row(), row(3), row(UNKNOWN, 4), row(3, 3, 4), row(4, 3)])


# Probabilities


def test_outcomes_are_all_rows():
    outcomes = build_likelihood().outcomes().tolist()
    expected = [
        row(*words)
        for n in range(LENGTH)
        for words in itertools.product(WORDS, repeat=n)
    ]

    assert sorted(outcomes) == sorted(expected)
    assert build_likelihood(length=6, n_words=40).outcomes() is None


def test_probabilities_sum_to_one():
    likelihood = build_likelihood()
    log_prob = likelihood(codes(6)).log_prob(likelihood.outcomes().unsqueeze(1))

    assert_close(log_prob.exp().sum(0), torch.ones(6).double(), rtol=0, atol=1e-12)
    # the codes matter
    assert (log_prob.std(1) > 0.1).any()


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_read_by_length_have_the_same_figures(monkeypatch, parts):
    likelihood = build_likelihood(length=6)
    x = likelihood(codes(200)).sample(generator=generator(4))
    z = codes(200, seed=5)
    figures = {}
    for few in (1_000, 1):
        monkeypatch.setattr(lstm, "FEWEST_ROWS", few)
        monkeypatch.setattr(lstm, "PARTS", parts)
        at = z.clone().requires_grad_()
        log_probs = likelihood(at).entry_log_prob(x)
        with torch.no_grad():
            unkept = likelihood(at).entry_log_prob(x)
        (slope,) = torch.autograd.grad(log_probs.square().sum(), at)
        fisher = likelihood.fisher_information(z, x)
        figures[few] = log_probs.detach(), unkept, slope, fisher

    assert len(lstm._by_length(x, len(x))) == parts
    assert len((x != PAD).sum(1).unique()) > 2
    for whole, in_parts in zip(*figures.values(), strict=True):
        assert_close(in_parts, whole, rtol=0, atol=1e-12)


def test_parts_hold_each_row_once_and_no_more_than_may_be_read(monkeypatch):
    x = torch.tensor([row(*[3] * (i % 4)) for i in range(100)])
    monkeypatch.setattr(lstm, "FEWEST_ROWS", 1)

    parts = lstm._by_length(x, 60, codes=3)

    assert max(map(len, parts)) <= 20
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    lengths = (x != PAD).sum(1)[torch.cat(parts)]
    assert lengths.equal(lengths.sort().values)


def next_word_log_probs(likelihood, words, z):
    """Log p(word|words, z) of each word that may follow, one row for each."""
    may_follow = [UNKNOWN, END, *range(3, likelihood.n_words)]
    length = likelihood.length
    rows = [
        row(*words, length=length) if v == END else row(*words, v, length=length)
        for v in may_follow
    ]
    found = likelihood(z).entry_log_prob(torch.tensor(rows).unsqueeze(1))
    return dict(zip(may_follow, found[..., len(words)], strict=True))


@pytest.mark.parametrize("words", [(), (3,), (4, UNKNOWN)])
def test_next_words_are_normalised(words):
    likelihood = build_likelihood(length=5)
    found = torch.stack(list(next_word_log_probs(likelihood, words, codes(3)).values()))

    assert_close(found.exp().sum(0), torch.ones(3).double(), rtol=0, atol=1e-12)


def test_last_column_is_the_end():
    """Its probability is 1, and nothing else is drawn there."""
    likelihood = build_likelihood(length=3)
    with torch.no_grad():  # an end before it is all but impossible
        likelihood.output.bias[END - 1] = -50.0
    p = likelihood(codes(50))
    full = torch.tensor(row(3, 4, length=3))

    assert (p.entry_log_prob(full)[:, -1] == 0).all()
    assert (p.entry_log_prob(full)[:, :2] < 0).all()
    for x in (p.sample((), generator()), p.mode):
        assert (x[:, -1] == END).all()
        assert ((x[:, :2] != END) & (x[:, :2] != PAD)).all()


def test_tokens_add_up_and_pads_count_for_nothing():
    p = build_likelihood()(codes(len(ROWS)))
    tokens = p.entry_log_prob(ROWS)

    assert_close(tokens.sum(-1), p.log_prob(ROWS))
    assert (tokens[ROWS == PAD] == 0).all()
    assert (tokens[:, :-1][ROWS[:, :-1] != PAD] < 0).all()


def test_a_row_is_read_from_left_to_right():
    """Later words change no earlier token's probability; earlier ones do."""
    likelihood = build_likelihood(length=6)
    z = codes(1)
    one, other = (
        likelihood(z).entry_log_prob(torch.tensor([row(*words, length=6)]))[0]
        for words in ((3, 4, 3, 4), (3, UNKNOWN, 3, 4))
    )

    assert_close(one[:1], other[:1], rtol=0, atol=0)
    assert (one[1:5] != other[1:5]).all()


def test_states_are_taken_on():
    with private_random(0):
        recurrent = Recurrent(3, (5, 4)).double()
    inputs = torch.randn(2, 6, 3, generator=generator(), dtype=torch.float64)
    whole, _ = recurrent(inputs)
    first, states = recurrent(inputs[:, :2])
    rest, _ = recurrent(inputs[:, 2:], states)

    assert whole.shape == (2, 6, 4)
    assert_close(torch.cat([first, rest], 1), whole)


# Draws


def assert_rows(x):
    """Words, one end, then pads."""
    ends = x == END
    assert x.dtype == torch.int64
    assert (ends.sum(-1) == 1).all()
    after = ends.cumsum(-1) - ends.long()
    assert torch.equal(x == PAD, after == 1)


def test_frequencies_are_the_probabilities():
    """Chi-square of all outcomes; false alarm: one in a million for each code."""
    likelihood = build_likelihood()
    outcomes = likelihood.outcomes()
    n = 20_000
    for z in codes(2):
        p = likelihood(z.expand(n, -1))
        x = p.sample((), generator(4))
        counts = (x.unsqueeze(1) == outcomes).all(-1).sum(0).numpy()
        expected = n * likelihood(z).log_prob(outcomes).exp().detach().numpy()
        rare = expected < 5
        counts, expected = (
            np.append(values[~rare], values[rare].sum())
            if values[rare].sum()
            else values[~rare]
            for values in (counts, expected)
        )

        assert counts.sum() == n
        assert stats.chisquare(counts, expected).pvalue > FALSE_ALARM


def test_draws_are_rows_of_any_leading_shape():
    likelihood = build_likelihood()
    before = torch.get_rng_state()
    p = likelihood(codes(3, 7))
    x = p.sample((2, 5), generator())

    assert x.shape == (2, 5, 3, 7, LENGTH)
    assert_rows(x)
    assert torch.equal(p.sample((2, 5), generator()), x)
    assert not torch.equal(p.sample((2, 5), generator(1)), x)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(x.flatten(0, -2).unique(dim=0)) > 10


def test_a_place_is_log_ratio_more_than_a_linear_map_of_the_code():
    likelihood = build_likelihood()
    words, z = torch.full((4, 1), PAD), codes(4)
    with torch.no_grad():
        there, back, middle = (
            likelihood.read(words, at)[0][:, 0, SIZES[-1] :]
            for at in (z, -z, torch.zeros_like(z))
        )
    assert there.shape == (4, SIZES[0])
    # the second difference of a linear map is zero
    assert ((there + back - 2 * middle).abs().amax(1) > 0.1).all()


def test_mode_is_the_most_probable_next_word_each_time():
    likelihood = build_likelihood(length=6)
    with torch.no_grad():  # that the codes matter more
        likelihood.recurrent.layers[0].weight_ih_l0[:, SIZES[0] :] *= 10
        likelihood.output.bias.zero_()
    found = likelihood(3 * codes(12)).mode
    assert_rows(found)
    for z, greedy in zip(3 * codes(12), found.tolist(), strict=True):
        words = []
        while len(words) < 5:
            log_probs = next_word_log_probs(likelihood, words, z.unsqueeze(0))
            best = max(log_probs, key=log_probs.get)
            if best == END:
                break
            words.append(best)
        assert greedy == row(*words, length=6)
    assert len(found.unique(dim=0)) > 3
    assert len((found == END).nonzero()[:, 1].unique()) > 1
    assert torch.equal(likelihood.decode(3 * codes(12)), found)
    folded = likelihood(3 * codes(12).unflatten(0, (3, 4)))
    assert torch.equal(folded.mode.flatten(0, 1), found)


# Pads


def figures(x, z, length):
    """Everything that is computed from rows, one row of numbers for each."""
    posterior = build_filter()
    q, r = build_encoder()(x), posterior(x)
    tokens = (x != PAD).double()
    likelihood = build_likelihood(length)
    return {
        "log_prob": likelihood(z).log_prob(x),
        "fisher": likelihood.fisher_information(z, x),
        "encoder": torch.cat([q.loc, q.log_scale], -1),
        "filter": torch.cat([r.loc, r.log_scale], -1),
        "log r": r.log_prob(z),
        "objective": posterior.objective(r, z),
        "log ratio before": (r.log_ratio_before(z, PRIOR) * tokens)[:, :LENGTH],
    }


def assert_same_figures(found, expected):
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)


def test_a_row_does_not_see_longer_ones_beside_it():
    z = codes(len(ROWS))
    together = figures(ROWS, z, LENGTH)
    for i in range(len(ROWS)):
        alone = figures(ROWS[i : i + 1], z[i : i + 1], LENGTH)
        beside = {name: value[i : i + 1] for name, value in together.items()}
        assert_same_figures(alone, beside)


def test_more_columns_of_pads_change_nothing():
    """But for the end: where a column follows, it is not bound to come."""
    z = codes(len(ROWS))
    narrow = figures(ROWS, z, LENGTH)
    wider = figures(torch.nn.functional.pad(ROWS, (0, 3)), z, LENGTH)
    longer = figures(torch.nn.functional.pad(ROWS, (0, 3)), z, LENGTH + 3)
    short = ROWS[:, -1] == PAD

    assert_same_figures(wider, narrow)
    for name in ("log_prob", "fisher"):
        assert_close(longer[name][short], narrow[name][short], rtol=1e-12, atol=1e-12)
        assert (longer[name] != narrow[name])[~short].all()
    assert 0 < short.sum() < len(ROWS)


def test_the_embedding_of_pads_is_never_read():
    z = codes(len(ROWS))
    before = build_filter()
    after = copy.deepcopy(before)
    with torch.no_grad():
        after.reader.embedding.weight[PAD] += 5.0
    one, other = before(ROWS), after(ROWS)

    objectives = before.objective(one, z), after.objective(other, z)
    assert_close(*objectives, rtol=0, atol=0)
    inside = ROWS != PAD
    assert_close(
        one.log_ratio_before(z, PRIOR)[inside], other.log_ratio_before(z, PRIOR)[inside]
    )


def test_every_token_is_read_from_both_sides():
    """A change of any word changes what is known of a row."""
    encoder = build_encoder()
    loc = encoder(torch.tensor([row(3, 3, 3)])).loc
    for t in range(LENGTH - 1):
        x = torch.tensor([row(3, 3, 3)])
        x[0, t] = 4
        assert (encoder(x).loc != loc).all()
    assert encoder(ROWS.expand(2, 3, *ROWS.shape)).loc.shape == (2, 3, 5, D_CODE)


# Broadcasting, chunks


def test_broadcasting():
    likelihood = build_likelihood()
    x, many, few = ROWS, codes(3, len(ROWS)), codes(2)
    k_by_n = likelihood(many).entry_log_prob(x)
    s_by_n = likelihood(few).entry_log_prob(x.unsqueeze(1))

    assert k_by_n.shape == (3, len(ROWS), LENGTH)
    assert s_by_n.shape == (len(ROWS), 2, LENGTH)
    for i in range(len(ROWS)):
        for k in range(3):
            one = likelihood(many[k, i : i + 1]).entry_log_prob(x[i])
            assert_close(k_by_n[k, i], one[0])
        for j in range(2):
            one = likelihood(few[j : j + 1]).entry_log_prob(x[i])
            assert_close(s_by_n[i, j], one[0])


def test_gradients_in_evaluation_mode():
    """CuDNN takes those of an LSTM in training mode alone."""
    model = build_filter().eval()

    assert not model.training
    assert all(m.training for m in model.modules() if isinstance(m, torch.nn.LSTM))


def test_one_code_of_no_batch():
    p = build_likelihood()(codes(1)[0])

    assert p.sample((), generator()).shape == p.mode.shape == (LENGTH,)
    assert p.log_prob(p.mode).shape == ()


def test_filter_broadcasts():
    model = build_filter()
    r, many = model(ROWS), codes(3, len(ROWS))
    listed, few = model(ROWS.unsqueeze(1)), codes(2)

    assert r.log_ratio_before(many, PRIOR).shape == (3, len(ROWS), LENGTH)
    assert listed.log_ratio_before(few, PRIOR).shape == (len(ROWS), 2, LENGTH)
    for k in range(3):
        assert_close(model.objective(r, many)[k], model.objective(r, many[k]))
        assert_close(
            r.log_ratio_before(many, PRIOR)[k], r.log_ratio_before(many[k], PRIOR)
        )
    for j in range(2):
        expected = model.objective(r, few[j].expand(len(ROWS), -1))
        assert_close(model.objective(listed, few)[:, j], expected)


@pytest.mark.parametrize("at_once", [1, 50, 200])
def test_chunks_change_no_figure(monkeypatch, at_once):
    likelihood = build_likelihood()
    z = codes(7, len(ROWS))
    whole = likelihood(z).entry_log_prob(ROWS)
    fisher = likelihood.fisher_information(z[0], ROWS)
    monkeypatch.setattr(lstm, "NUMBERS_AT_ONCE", at_once)
    calls, plain = [], likelihood.read

    def read(words, *arguments):
        calls.append(len(words))
        return plain(words, *arguments)

    likelihood.read = read
    with torch.no_grad():
        parts = likelihood(z).entry_log_prob(ROWS)

    assert len(calls) > 1
    assert max(calls) == max(1, at_once // (LENGTH * N_WORDS))
    assert_close(parts, whole.detach(), rtol=1e-12, atol=1e-12)
    assert_close(likelihood.fisher_information(z[0], ROWS), fisher, rtol=1e-9, atol=0)
    calls.clear()
    likelihood(z).entry_log_prob(ROWS)
    assert calls == [7 * len(ROWS)]  # a gradient keeps it all anyway


# Fisher information


def outer_product_of_scores(log_probs, z):
    """Sum over outcomes of p score score', by differentiating each."""
    total = torch.zeros(len(z), D_CODE, D_CODE).double()
    for log_prob in log_probs:
        (score,) = torch.autograd.grad(log_prob.sum(), z, retain_graph=True)
        products = score.unsqueeze(-1) * score.unsqueeze(-2)
        total += log_prob.exp().detach()[:, None, None] * products
    return total


def test_fisher_information_given_the_prefixes():
    likelihood = build_likelihood()
    z = codes(3).requires_grad_()
    for x in ROWS:
        exact = torch.zeros(3, D_CODE, D_CODE).double()
        tokens = x[x != PAD].tolist()
        for t in range(min(len(tokens), LENGTH - 1)):
            following = next_word_log_probs(likelihood, tokens[:t], z)
            exact += outer_product_of_scores(following.values(), z)
        found = likelihood.fisher_information(z.detach(), x.expand(3, -1))

        assert found.dtype == torch.float64
        scale = float(exact.abs().max())
        assert_close(found, exact, rtol=0, atol=0.01 * scale)


def test_fisher_information_is_the_mean_outer_product_of_scores():
    likelihood = build_likelihood()
    z, outcomes = codes(2).requires_grad_(), likelihood.outcomes()
    log_probs = likelihood(z).log_prob(outcomes.unsqueeze(1))
    exact = outer_product_of_scores(log_probs, z)
    for i in range(2):
        at = z[i].detach().expand(len(outcomes), -1)
        conditional = likelihood.fisher_information(at, outcomes)
        probability = log_probs[:, i].exp().detach()[:, None, None]
        mean = (probability * conditional).sum(0)

        assert_close(mean, exact[i], rtol=0, atol=0.01 * float(exact[i].max()))


def test_fisher_information_in_single_precision():
    double = build_likelihood()
    single = copy.deepcopy(double).float()
    z = codes(len(ROWS))
    found = single.fisher_information(z.float(), ROWS)
    expected = double.fisher_information(z, ROWS)

    assert_close(found, expected, rtol=0, atol=0.05 * float(expected.max()))


# The filter


def test_log_ratio_before_is_what_earlier_tokens_say():
    """Of each prefix alone: nothing before the first, and nothing of what follows."""
    z = codes(1)
    log_ratio = build_filter()(
        torch.tensor([row(3, 4, 3, 4, length=6)])
    ).log_ratio_before(z, PRIOR)[0]

    assert log_ratio[0] == 0
    assert (log_ratio[1:5] != 0).all()
    for t in range(4):
        words = [3, 4, 3, 4]
        words[t] = UNKNOWN
        x = torch.tensor([row(*words, length=6)])
        other = build_filter()(x).log_ratio_before(z, PRIOR)[0]
        assert_close(other[: t + 1], log_ratio[: t + 1], rtol=0, atol=1e-13)
        assert (other[t + 1 : 5] != log_ratio[t + 1 : 5]).all()


def test_what_a_filter_learns_from():
    """log r(z|x), and the mean of log r(z|x_1..x_t) over the row's own tokens."""
    model, z = build_filter(), codes(len(ROWS))
    r = model(ROWS)
    for i, x in enumerate(ROWS):
        n = int((x != PAD).sum())
        partial = [
            DiagonalNormal(r.prefixes.loc[i, t], r.prefixes.log_scale[i, t])
            for t in range(n)
        ]
        mean = sum(prefix.log_prob(z[i]) for prefix in partial) / n
        log_ratio = [prefix.log_prob(z[i]) - PRIOR.log_prob(z[i]) for prefix in partial]

        assert_close(model.objective(r, z)[i], r.log_prob(z)[i] + mean)
        assert_close(
            r.log_ratio_before(z, PRIOR)[i, 1:n],
            torch.stack(log_ratio)[: n - 1].reshape(-1),
        )


def test_scales_of_a_filter_are_bounded():
    model = build_filter()
    with torch.no_grad():
        for layer in (model.prefix_output, model.reader.output):
            layer.bias[D_CODE:] = torch.tensor([100.0, -100.0]).double()
    r = model(ROWS)

    assert isinstance(r, FilteredNormal)
    for scale in (r.log_scale, r.prefixes.log_scale[ROWS != PAD]):
        assert (scale[..., 0] == 4).all()
        assert (scale[..., 1] == -12).all()


# Copies and types


def numbers(module):
    """Figures of a module at its own precision."""
    z = codes(len(ROWS)).to(next(module.parameters()))
    if isinstance(module, SequenceLikelihood):
        return module(z).entry_log_prob(ROWS)
    q = module(ROWS)
    return module.objective(q, z) if hasattr(module, "objective") else q.log_prob(z)


every_module = pytest.mark.parametrize(
    "build", [build_likelihood, build_encoder, build_filter]
)


@every_module
def test_copies(build):
    module = build()
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert_close(numbers(twin), numbers(module), rtol=0, atol=0)
        sharpened(twin)
        assert (numbers(twin) != numbers(module)).any()


@every_module
def test_single_precision(build):
    double = build()
    single = copy.deepcopy(double).float()

    assert numbers(single).dtype == torch.float32
    assert_close(numbers(single).double(), numbers(double), rtol=1e-4, atol=1e-4)


def test_same_words_in_either_precision():
    double = build_likelihood()
    single = copy.deepcopy(double).float()
    p, q = double(codes(30)), single(codes(30).float())

    assert torch.equal(p.mode, q.mode)
    assert q.sample((4,), generator()).dtype == torch.int64
