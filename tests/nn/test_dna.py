"""The model of DNA: tokenizers, poolings, directions and strands; pieces and the whole are the same."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
import torch.utils.checkpoint

from titans_ts import ResidualTokenizer
from titans_ts.config import BackboneConfig, MemoryConfig, SequenceConfig
from titans_ts.nn import DIRECTIONS, DNA_TOKENIZERS, POOLINGS, SequenceModel
from titans_ts.nn.dna.nucleotides import (
    ABSENT,
    complement_codes,
    decode_nucleotides,
    encode_nucleotides,
)
from titans_ts.nn.dna.tokenizers import learn_merges

BACKBONE = BackboneConfig(
    variant="mag",
    d_model=8,
    n_heads=2,
    n_layers=1,
    window=8,
    dropout=0.0,
    memory=MemoryConfig(chunk_size=4),
)
RNG = np.random.default_rng(0)
SEQUENCES = ["".join(RNG.choice(list("ACGTN-r"), n)) for n in (1, 7, 23, 41, 60)]
CODES = [encode_nucleotides(s.replace("-", "A", 1)) for s in SEQUENCES]
TOKENIZERS = {
    "nucleotide": {"kernel_size": 5},
    "nucleotide by 3": {"tokenizer": "nucleotide", "kernel_size": 5, "stride": 3},
    "conv": {"kernel_size": 5, "n_filters": 6},
    "conv by 4": {"tokenizer": "conv", "kernel_size": 5, "stride": 4, "n_filters": 6},
    "residual": {"kernel_size": 5, "n_filters": 12, "n_residual": 2},
    "residual by 4": {
        "tokenizer": "residual",
        "kernel_size": 5,
        "stride": 4,
        "n_filters": 6,
        "n_residual": 2,
    },
    "kmer": {"kernel_size": 3},
    "kmer with gaps": {"tokenizer": "kmer", "kernel_size": 3, "gaps": 2, "stride": 2},
    "kmer, every word": {
        "tokenizer": "kmer",
        "kernel_size": 3,
        "gaps": 1,
        "stride": 3,
        "all_offsets": True,
    },
    "kmer by 3": {"tokenizer": "kmer", "kernel_size": 3, "stride": 3},
    "bpe": {"merges": learn_merges(CODES, 12)},
}


def model(name="nucleotide", **values):
    torch.manual_seed(0)
    options = {"tokenizer": name, "backbone": BACKBONE, "length": 60, "n_outputs": 3}
    built = SequenceModel(SequenceConfig(**(options | TOKENIZERS[name] | values)))
    with torch.no_grad():  # attention pooling tells tokens apart
        for p in built.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return built.eval()


def padded(codes):
    lengths = torch.tensor([len(c) for c in codes])
    rows = np.full((len(codes), int(lengths.max())), 2, np.int64)
    for row, c in zip(rows, codes, strict=True):
        row[: len(c)] = c
    return torch.from_numpy(rows), lengths


def test_every_tokenizer_is_tested():
    assert {o.get("tokenizer", name) for name, o in TOKENIZERS.items()} == set(DNA_TOKENIZERS)


TRIPLES = [  # every two of a tokenizer, a pooling and a direction come together
    (name, pooling, DIRECTIONS[(i + j) % 3])
    for i, name in enumerate(TOKENIZERS)
    for j, pooling in enumerate(POOLINGS)
]


@pytest.mark.parametrize(("name", "pooling", "bidirectional"), TRIPLES)
def test_pieces_of_any_size_are_the_whole_and_neighbours_do_not_matter(
    name, pooling, bidirectional
):
    built = model(name, pooling=pooling, bidirectional=bidirectional)
    with torch.inference_mode():
        together = built(*padded(CODES))
        for codes, expected in zip(CODES, together, strict=True):
            torch.testing.assert_close(built(*padded([codes]))[0], expected, atol=1e-5, rtol=1e-4)
            for piece in (1, 5) if len(codes) < 10 else (7, 30):
                read = built.read(codes, piece)
                torch.testing.assert_close(read, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("rc", ["average", "equivariant"])
@pytest.mark.parametrize("output", ["classes", "labels", "values"])
def test_both_strands_have_one_answer(name, rc, output):
    built = model(name, rc=rc, output=output, bidirectional="shared")
    with torch.inference_mode():
        codes, lengths = padded(CODES)
        one = built(codes, lengths)
        other = built(*padded([complement_codes(c) for c in CODES]))
        alone = model(name, rc="none", output=output, bidirectional="shared")
        assert not torch.allclose(alone(codes, lengths), one, atol=1e-4)
        whole = torch.stack([built.read(c, 16) for c in CODES])
    if output == "classes":
        one, other, whole = (x.log_softmax(-1) for x in (one, other, whole))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole, one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("output", ["classes", "labels"])
def test_averaged_strands_have_the_mean_probability(output):
    codes, lengths = padded(CODES)
    other, _ = padded([complement_codes(c) for c in CODES])
    alone, both = (model(rc=rc, output=output) for rc in ("none", "average"))

    def probability(x):
        return x.softmax(-1) if output == "classes" else x.sigmoid()

    with torch.inference_mode():
        mean = (probability(alone(codes, lengths)) + probability(alone(other, lengths))) / 2
        torch.testing.assert_close(probability(both(codes, lengths)), mean, atol=1e-5, rtol=1e-4)


def test_an_equivariant_model_trains_on_both_strands_at_once():
    built = model(rc="equivariant").train()
    codes, lengths = padded(CODES)
    other, _ = padded([complement_codes(c) for c in CODES])
    built.pooling.eval(), built.head.eval()
    torch.testing.assert_close(built(codes, lengths), built(other, lengths), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rc", ["none", "equivariant"])
@pytest.mark.parametrize("bidirectional", DIRECTIONS)
def test_every_parameter_is_used(rc, bidirectional):
    for name, pooling, own in TRIPLES:
        if own != bidirectional:
            continue
        built = model(name, rc=rc, bidirectional=bidirectional, pooling=pooling).train()
        built(*padded(CODES)).square().sum().backward()
        dead = {n for n, p in built.named_parameters() if p.grad is None or not p.grad.any()}
        if name.startswith("residual"):
            dead.discard("tokenizer.conv.bias")  # the mean of the batch is subtracted from it
        assert not dead, (name, pooling)


def track(**values):
    return model(n_bins=4, n_outputs=2, output="values", **values)


@pytest.mark.parametrize("bidirectional", DIRECTIONS)
def test_tracks_answer_for_their_own_bins(bidirectional):
    built = track(bidirectional=bidirectional)
    codes = torch.from_numpy(RNG.integers(0, 4, (1, 24)))
    lengths = torch.tensor([24])
    with torch.inference_mode():
        before = built(codes, lengths)
        codes[0, 13] = (codes[0, 13] + 1) % 4  # in the third bin
        moved = (built(codes, lengths) - before).abs().amax((0, 2)) > 1e-7
    assert before.shape == (1, 4, 2)
    assert moved.tolist() == [bidirectional != "none"] * 2 + [True, True]


@pytest.mark.parametrize("rc", ["average", "equivariant"])
def test_the_track_of_the_other_strand_is_the_track_backwards(rc):
    built = track(rc=rc)
    codes = RNG.integers(0, 4, (3, 24)).astype(np.uint8)
    with torch.inference_mode():
        one = built(*padded(codes))
        other = built(*padded([complement_codes(c) for c in codes]))
    torch.testing.assert_close(one, other.flip(1), atol=1e-5, rtol=1e-4)


def test_augmented_tracks_keep_the_order_of_their_bins():
    """Whichever strand training reads, a bin's answer is for the same letters."""
    built = track(rc="augment").train()
    built.head.eval()
    codes, lengths = padded(RNG.integers(0, 4, (64, 24)).astype(np.uint8))
    plain = track(rc="none")
    other = padded([complement_codes(c.numpy().astype(np.uint8)) for c in codes])
    answers = built(codes, lengths)
    same = torch.isclose(answers, plain(codes, lengths), atol=1e-5).all((1, 2))
    back = torch.isclose(answers, plain(*other).flip(1), atol=1e-5).all((1, 2))
    assert (same ^ back).all()
    assert 10 < same.sum() < 54


def test_lower_case():
    upper, lower = (encode_nucleotides(s, "flag") for s in ("ACGTACGT", "ACgtACGT"))
    assert decode_nucleotides(complement_codes(lower)) == "ACGTacGT"
    for name in ("nucleotide", "conv"):
        marked = model(name, soft_masked="flag")
        with torch.inference_mode():
            assert not torch.allclose(marked(*padded([upper])), marked(*padded([lower])))
    gone = encode_nucleotides("acGTgt", "mask")
    np.testing.assert_array_equal(gone, [ABSENT, ABSENT, 2, 3, ABSENT, ABSENT])
    with pytest.raises(ValueError, match='the sequence is nothing but "-" and lower case; drop it'):
        encode_nucleotides("acgt", "mask")


def test_words_are_told_apart_and_unknown_ones_are_not():
    built = model("kmer by 3")
    with torch.inference_mode():
        tokens, mask = built.tokenizer(
            *(x := torch.tensor([[0, 1, 2, 0, 1, 4, 0, 1, 6, 3]]), x < 99)
        )
        words = tokens - built.tokenizer.position(_positions(4))
    assert mask.all()
    assert torch.allclose(words[0, 1], words[0, 2], atol=1e-5)  # both hold an ambiguous letter
    assert not torch.allclose(words[0, 0], words[0, 1], atol=1e-3)


def test_words_may_leave_letters_out():
    built = model("kmer with gaps", position=False)
    rows = torch.tensor([[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 0, 3], [0, 3, 2, 1, 0, 1]])
    with torch.inference_mode():
        tokens, _ = built.tokenizer(rows, rows < 9)
        table = built.tokenizer.words.weight.unflatten(0, (6, 65))
        # the last token of the first row sees C G T A C: C and two of the other four letters
        expected = 0
        for i, (a, b) in enumerate([(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]):
            word = [1, [1, 2, 3, 0, 1][a], [1, 2, 3, 0, 1][b]]
            expected = expected + table[i, sum(c * 4**j for j, c in enumerate(word))]
    torch.testing.assert_close(tokens[0, 2], expected)
    assert not torch.allclose(tokens[0, 2], tokens[1, 2])


def test_a_token_may_see_every_word_that_ends_in_it():
    built = model("kmer, every word", position=False, gaps=0)
    rows = torch.tensor([[0, 1, 2, 3, 0, 1]])
    with torch.inference_mode():
        tokens, _ = built.tokenizer(rows, rows < 9)
        table = built.tokenizer.words.weight.unflatten(0, (3, 65))
        words = [[1, 2, 3], [2, 3, 0], [3, 0, 1]]  # that end at the fourth, fifth and sixth letter
        expected = sum(
            table[i, sum(c * 4**j for j, c in enumerate(word))] for i, word in enumerate(words)
        )
    torch.testing.assert_close(tokens[0, 1], expected)


def _positions(n):
    from titans_ts.nn.dna.tokenizers.base import sinusoids

    return sinusoids(torch.arange(n), 8)


def test_a_filter_matches_anywhere_in_its_token():
    built = model("conv by 4").tokenizer
    with torch.inference_mode():
        rows = torch.tensor([[3, 3, 3, 3, 0, 1, 2, 3], [3, 3, 3, 3, 3, 3, 3, 3]])
        x = torch.nn.functional.gelu(built.conv(built.one_hot(rows, rows < 9)))
        tokens, _ = built(rows, rows < 9)
        expected = built.out(x[..., -4:].amax(-1)) + built.position(_positions(2))[1]
    torch.testing.assert_close(tokens[:, 1], expected)


def without_dropout(module):
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return module


def test_what_is_absent_takes_no_part_in_the_statistics_of_a_batch():
    tokenizer = without_dropout(model("residual by 4").tokenizer.train())
    padded = copy.deepcopy(tokenizer)
    codes = torch.randint(0, 4, (3, 40), generator=torch.Generator().manual_seed(0))
    tokens, there = tokenizer(codes, codes < 4)
    longer = torch.nn.functional.pad(codes, (0, 24))
    found, known = padded(longer, torch.arange(64).expand(3, -1) < 40)
    assert there.all()
    assert known.sum() == there.sum()
    torch.testing.assert_close(found[:, :10], tokens)
    for name, value in tokenizer.state_dict().items():
        torch.testing.assert_close(padded.state_dict()[name], value)
    one = tokenizer(codes[:1, :1], codes[:1, :1] < 4)[0]  # a batch of one token has no variance
    torch.testing.assert_close(one, tokenizer.eval()(codes[:1, :1], codes[:1, :1] < 4)[0])


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_a_filter_has_the_weight_that_a_letter_adds_to_its_match(name):
    tokenizer = model(name).tokenizer.eval()
    codes = torch.randint(0, 4, (1, tokenizer.kernel_size))
    other = codes.clone()
    other[0, 2] = (codes[0, 2] + 1) % 4
    with torch.no_grad():
        if name == "residual":
            tokenizer.norm.running_var.uniform_(0.5, 2)
            tokenizer.norm.weight.uniform_(-2, 2)
        there = torch.ones_like(codes, dtype=torch.bool)
        match, changed = (tokenizer.conv(tokenizer.one_hot(x, there)).mT for x in (codes, other))
        if name == "residual":
            match, changed = (tokenizer.norm(x, there[:, :1]) for x in (match, changed))
    weight = tokenizer.filters[:, :, 2]
    torch.testing.assert_close(
        (changed - match)[0, 0], weight[:, other[0, 2]] - weight[:, codes[0, 2]]
    )


def test_statistics_of_a_batch_serve_from_the_first_one_on_and_stay_finite():
    tokenizer = without_dropout(model("residual by 4").tokenizer)
    codes = torch.randint(0, 4, (64, 200), generator=torch.Generator().manual_seed(0))
    learned = tokenizer.train()(codes, codes < 4)[0]
    told = tokenizer.eval()(codes, codes < 4)[0]
    assert (learned - told).std() < 0.05 * learned.std()
    weight = tokenizer.conv.weight.detach().clone()
    with torch.no_grad():
        tokenizer.conv.weight.fill_(torch.inf)
        tokenizer.train()(codes, codes < 4)
        tokenizer.conv.weight.copy_(weight)
    torch.testing.assert_close(tokenizer.eval()(codes, codes < 4)[0], told)


@pytest.mark.parametrize("n_residual", [-1, 9, 1.5])
def test_convolutions_over_tokens_that_are_too_many(n_residual):
    for kind in (ResidualTokenizer, partial(SequenceConfig, n_outputs=2)):
        with pytest.raises((ValueError, TypeError), match=r"n_residual is "):
            kind(n_residual=n_residual)


@pytest.mark.parametrize("soft_masked", ["keep", "flag"])
@pytest.mark.parametrize(("stride", "kernel_size"), [(1, 9), (4, 15), (4, 8), (3, 3), (2, 2)])
def test_sums_that_are_looked_up_are_those_of_the_convolution(soft_masked, stride, kernel_size):
    config = SequenceConfig(
        n_outputs=2,
        tokenizer="conv",
        stride=stride,
        kernel_size=kernel_size,
        n_filters=6,
        soft_masked=soft_masked,
        position=True,
    )
    tokenizer = DNA_TOKENIZERS["conv"](config).double()
    convolved = copy.deepcopy(tokenizer)
    convolved.conv.register_forward_hook(lambda *_: None)  # which only a convolution has
    parameters, others = list(tokenizer.parameters()), list(convolved.parameters())
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 12 if soft_masked == "flag" else 6, (5, 50), generator=generator)
    codes[0, 10:40] = 2  # equal sums
    mask = torch.ones(5, 50, dtype=torch.bool)
    for held in (mask, mask & (torch.arange(50) < torch.tensor([50, 31, 8, 1, 0])[:, None])):
        expected, there = convolved(codes, held)
        d_tokens = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
        gradients = torch.autograd.grad(expected, others, d_tokens)
        with torch.no_grad():
            found, same = tokenizer(codes, held)
        assert torch.equal(there, same)
        torch.testing.assert_close(found, expected.detach())
        found, same = tokenizer(codes, held)
        assert torch.equal(there, same)
        torch.testing.assert_close(found, expected)
        for own, other in zip(
            torch.autograd.grad(found, parameters, d_tokens), gradients, strict=True
        ):
            torch.testing.assert_close(own, other)


@pytest.mark.parametrize("soft_masked", ["keep", "flag"])
@pytest.mark.parametrize(("stride", "kernel_size"), [(1, 9), (4, 15), (3, 3)])
def test_normalised_filters_are_as_normalised_matches(
    soft_masked, stride, kernel_size, monkeypatch
):
    config = SequenceConfig(
        n_outputs=2,
        tokenizer="residual",
        stride=stride,
        kernel_size=kernel_size,
        n_filters=40,  # with fewer, the filters are long
        n_residual=1,
        soft_masked=soft_masked,
    )
    monkeypatch.setattr("titans_ts.nn.dna.tokenizers.base.NUMBERS_AT_ONCE", 7 * 4 * 40)
    folded = without_dropout(DNA_TOKENIZERS["residual"](config).double())
    with torch.no_grad():
        folded.norm.weight.uniform_(-2, 2)
        folded.norm.bias.uniform_(-1, 1)
    plain = copy.deepcopy(folded)
    called = []
    plain.conv.register_forward_hook(lambda *call: called.append(call))
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 12 if soft_masked == "flag" else 6, (5, 50), generator=generator)
    mask = torch.ones(5, 50, dtype=torch.bool)
    for held in (mask, mask & (torch.arange(50) < torch.tensor([50, 31, 8, 1, 0])[:, None])):
        for training in (True, False):
            results = []
            for tokenizer in (folded.train(training), plain.train(training)):
                tokens, there = tokenizer(codes, held)
                weights = torch.linspace(-1, 1, tokens.numel()).view(tokens.shape)
                gradients = torch.autograd.grad((tokens * weights).sum(), tokenizer.parameters())
                results.append([tokens, there, *gradients, *tokenizer.state_dict().values()])
                if not training:
                    with torch.no_grad():
                        torch.testing.assert_close(tokenizer(codes, held)[0], tokens.detach())
            torch.testing.assert_close(*results)
    assert len(called) == 6


def test_filters_whose_matches_do_not_vary_keep_finite_statistics():
    config = SequenceConfig(n_outputs=2, tokenizer="residual", stride=1, kernel_size=1, n_filters=6)
    tokenizer = DNA_TOKENIZERS["residual"](config).train()
    codes = torch.randint(0, 4, (16, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for scale in (1.0, 10.0, 1e4, 1e19):
            tokenizer.conv.weight.copy_(scale * torch.randn(6, 1, 1).expand(6, 4, 1))
            assert tokenizer(codes, codes < 4)[0].isfinite().all()
            assert (tokenizer.norm.running_var >= 0).all()
        tokenizer.conv.weight.normal_().mul_(1e19)  # their variance is finite, and barely
        tokenizer(codes, codes < 4)
    assert tokenizer.norm.running_var.isfinite().all()
    assert tokenizer.eval()(codes, codes < 4)[0].isfinite().all()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("part", ["conv", "norm", "out"])
@pytest.mark.parametrize("kind", ["forward", "backward", "replaced"])
def test_what_takes_part_in_the_filters_is_called(part, kind):
    tokenizer = model("residual by 4").tokenizer
    module, called = getattr(tokenizer, part), []
    if kind == "forward":
        module.register_forward_hook(lambda *call: called.append(call))
    elif kind == "backward":
        module.register_full_backward_hook(lambda *call: called.append(call))
    else:
        own = module.forward
        module.forward = lambda *x: called.append(x) or own(*x)
    codes = torch.randint(0, 4, (3, 40), generator=torch.Generator().manual_seed(0))
    tokenizer(codes, codes < 4)[0].sum().backward()
    assert len(called) == 1


def test_long_filters_are_as_their_convolution():
    config = SequenceConfig(
        n_outputs=2, tokenizer="residual", stride=4, kernel_size=60, n_filters=6
    )
    tokenizer = DNA_TOKENIZERS["residual"](config).double().eval()
    codes = torch.randint(0, 4, (3, 90), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, _ = tokenizer(codes, codes < 4)
        tokenizer.conv.register_forward_hook(lambda *_: None)
        torch.testing.assert_close(found, tokenizer(codes, codes < 4)[0])


def test_normalised_filters_have_exact_statistics_in_half_precision():
    config = SequenceConfig(n_outputs=2, tokenizer="residual", stride=4, n_filters=40)
    exact = without_dropout(DNA_TOKENIZERS["residual"](config).train())
    mixed, half = copy.deepcopy(exact), copy.deepcopy(exact).bfloat16()
    codes = torch.randint(0, 4, (64, 200), generator=torch.Generator().manual_seed(0))
    exact(codes, codes < 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed(codes, codes < 4)[0].sum().backward()
    half(codes, codes < 4)[0].sum().backward()
    assert half.conv.weight.grad.isfinite().all()
    for name in ("running_mean", "running_var"):
        expected = getattr(exact.norm, name)
        torch.testing.assert_close(getattr(mixed.norm, name), expected)
        found = getattr(half.norm, name).float()
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.002)


def test_sums_are_looked_up_part_by_part(monkeypatch):
    config = SequenceConfig(n_outputs=2, tokenizer="conv", stride=4, n_filters=6)
    tokenizer = DNA_TOKENIZERS["conv"](config).double()
    codes = torch.randint(0, 4, (5, 50), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(50) < torch.tensor([50, 31, 8, 1, 0])[:, None]
    found = []
    for size in (2**18, 4 * 6, 7 * 4 * 6):
        monkeypatch.setattr("titans_ts.nn.dna.tokenizers.base.NUMBERS_AT_ONCE", size)
        tokens, _ = tokenizer(codes, mask)
        gradients = torch.autograd.grad(tokens.square().sum(), list(tokenizer.parameters()))
        found.append([tokens, *gradients])
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_motif_filters_learn_as_a_convolution_does_wherever_they_are_looked_up():
    config = SequenceConfig(n_outputs=2, tokenizer="conv", stride=4, n_filters=6)
    tokenizer = DNA_TOKENIZERS["conv"](config)
    codes = torch.randint(0, 4, (3, 40), generator=torch.Generator().manual_seed(0))
    weight = tokenizer.conv.weight

    def gradient(call):
        return torch.autograd.grad(call(codes, codes < 9)[0].square().sum(), weight)[0]

    expected = gradient(tokenizer)
    compiled = torch.compile(tokenizer, backend="eager", fullgraph=True)
    torch.testing.assert_close(gradient(compiled), expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(gradient(tokenizer), expected, rtol=0.1, atol=1.0)
    again = torch.utils.checkpoint.checkpoint(tokenizer, codes, codes < 9, use_reentrant=False)
    again[0].square().sum().backward()
    torch.testing.assert_close(weight.grad, expected)
    loss = tokenizer(codes, codes < 9)[0].square().sum()
    (first,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    torch.nn.utils.prune.l1_unstructured(tokenizer.conv, "weight", 0.5)
    for _ in range(2):
        tokenizer(codes, codes < 9)[0].sum().backward()
    tokenizer.requires_grad_(False)
    assert not tokenizer(codes, codes < 9)[0].requires_grad


def test_without_places_a_token_is_the_same_wherever_it_stands():
    for name in TOKENIZERS:
        placed, free = (model(name, position=p).tokenizer for p in (True, False))
        codes = torch.tensor([[0, 1, 2, 3, 3, 1] * 20])  # repeats after every stride
        with torch.inference_mode():
            for tokenizer, same in ((placed, False), (free, True)):
                tokens, _ = tokenizer(codes, codes < 9)
                if name != "bpe":
                    period = 6 if tokenizer.stride == 1 else 12 // tokenizer.stride
                    one, other = tokens[0, -1], tokens[0, -1 - period]
                    assert torch.allclose(one, other, atol=1e-5) == same  # values near 1
                assert (tokenizer.position is None) == same


def test_places_far_along_a_genome_are_still_told_apart():
    from titans_ts.nn.dna.tokenizers.base import sinusoids

    far = 3_000_000_000
    place = torch.arange(far, far + 3)
    expected = np.sin(np.arange(far, far + 3, dtype=np.float64))
    np.testing.assert_allclose(sinusoids(place, 8)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rc": "both"}, "rc is 'both'; choose one of"),
        ({"pooling": "sum"}, "pooling is 'sum'; choose one of"),
        ({"bidirectional": True}, "bidirectional is True; choose one of"),
        ({"soft_masked": "n"}, "soft_masked is 'n'; choose one of"),
        ({"stride": 9}, "kernel_size is 5 and stride 9; a token would not see all of its letters"),
        ({"tokenizer": "kmer", "kernel_size": 11}, "kernel_size is 11; k-mers have at most 10"),
        ({"tokenizer": "kmer", "soft_masked": "flag"}, "which k-mers cannot show"),
        ({"tokenizer": "bpe"}, "merges is empty; BPE learns them"),
        ({"tokenizer": "bpe", "merges": ("A C",), "stride": 2}, "stride is 2; BPE tokens"),
        ({"output": "numbers"}, "output is 'numbers'; choose one of"),
    ],
)
def test_choices_that_do_not_go_together(values, message):
    with pytest.raises(ValueError, match=message):
        model(**values)


def test_sequences_that_do_not_fit():
    flat = model(pooling="flatten", length=10)
    with pytest.raises(
        ValueError, match="a sequence has 12 tokens; the pooling 'flatten' was made"
    ):
        flat(torch.zeros(1, 12, dtype=torch.long), torch.tensor([12]))
    with pytest.raises(ValueError, match="sequences have 10 tokens, which are not 4 equal bins"):
        track()(torch.zeros(1, 10, dtype=torch.long), torch.tensor([10]))
    with pytest.raises(ValueError, match="a track .* is read whole"):
        track().read(np.zeros(24, np.uint8), 8)


def test_pairs_are_learned_of_the_letters_that_are_there():
    compared = []

    class Codes(np.ndarray):
        def __ne__(self, other):
            compared.append(len(self))
            return np.asarray(self) != other

    rng = np.random.default_rng(0)
    codes = rng.choice(6, 5500).astype(np.uint8)  # 5 is absent
    there = codes[codes != 5]
    stretches = [there[i : i + 1000] for i in range(0, len(there), 1000)]
    assert learn_merges([codes.view(Codes)], 20) == learn_merges(stretches, 20)
    assert compared == [5500]  # once, however many stretches there are
