import pickle
from array import array

import pytest
import torch

from itm_lightning.encoders import PretrainedText, RecurrentText
from itm_lightning.encoders.vocabulary import TextCache
from itm_lightning.encoders.word_noise import Substitutes, noisy
from itm_lightning.errors import InputError
from tests.encoders.conftest import TEXTS

MASK, PADDING, START, END = 1, 0, 2, 3
OTHERS = torch.arange(50, 60)
SUBSTITUTES = Substitutes(MASK, OTHERS, PADDING)


def texts(rows, words, pieces=1):
    """Start, numbered words of so many pieces, end; then padding."""
    body = torch.arange(10, 10 + words).repeat_interleave(pieces)
    number = torch.arange(words).repeat_interleave(pieces)
    ids = torch.tensor([START, *body, END, PADDING, PADDING]).repeat(rows, 1)
    of_word = torch.tensor([-1, *number, -1, -1, -1]).repeat(rows, 1)
    return ids, ids != PADDING, of_word


def test_shares_are_those_of_the_paper():
    ids, mask, words = texts(4000, 12)
    noise, left = noisy(ids, mask, words, 0.2, SUBSTITUTES)
    total = 4000 * 12
    masked = (noise == MASK).sum() / total
    replaced = (noise >= 50).sum() / total
    deleted = (mask.sum() - left.sum()) / total
    shares = [masked.item(), replaced.item(), deleted.item()]
    assert shares == pytest.approx([0.1, 0.02, 0.08], abs=0.005)
    assert set(noise[noise >= 50].tolist()) == set(OTHERS.tolist())


def test_equals_the_obvious_loop(monkeypatch):
    """With the draws at hand: below 0.5, 0.6 and 1 of the share, and not below."""
    draws = torch.tensor([[0.05, 0.15, 0.9, 0.11, 0.19], [0.3, 0.2, 0.1, 0.099, 0.1999]])
    monkeypatch.setattr(torch, "rand", lambda *size: draws[:, : size[1]])
    ids, mask, words = texts(2, 5)
    noise, left = noisy(ids, mask, words, 0.2, SUBSTITUTES)
    expected = []
    for row in range(2):
        text = [START]
        for word, draw in enumerate(draws[row].tolist()):
            part = draw / 0.2
            if part < 0.5:
                text.append(MASK)
            elif part < 0.6:
                text.append("another")
            elif part >= 1:
                text.append(10 + word)
        expected.append([*text, END])
    found = [
        ["another" if i >= 50 else i for i in text[real].tolist()]
        for text, real in zip(noise, left, strict=True)
    ]
    assert expected == [[2, 1, 12, "another", 3], [2, 10, 11, "another", 1, 3]]
    assert found == expected
    assert noise.shape[1] == 6  # no longer than the longest
    assert noise[0, 5] == PADDING


def test_pieces_of_a_word_share_its_fate():
    ids, mask, words = texts(300, 6, pieces=3)
    noise, left = noisy(ids, mask, words, 1.0, SUBSTITUTES)
    for text, real in zip(noise, left, strict=True):
        body = text[real][1:-1]
        assert len(body) % 3 == 0
        assert all(int((part == MASK).sum()) in (0, 3) for part in body.split(3))


def test_one_word_stays_and_the_ends_are_spared():
    ids, mask, words = texts(500, 2)
    noise, left = noisy(ids, mask, words, 1.0, SUBSTITUTES)
    lengths = left.sum(dim=1)
    assert set(lengths.tolist()) == {3, 4}  # with start and end
    assert (noise[:, 0] == START).all()
    assert (noise.gather(1, lengths[:, None] - 1) == END).all()
    alone = noise[lengths == 3][:, 1]
    assert {10, 11} <= set(alone.tolist())  # both were deleted: either came back as it was


def test_nothing_to_disturb_stays():
    ids, mask, words = texts(3, 0)
    noise, left = noisy(ids, mask, words, 1.0, SUBSTITUTES)
    assert torch.equal(noise, ids[:, :2])
    assert left.all()


ENCODERS = {
    "RecurrentText": lambda folders, **more: RecurrentText(hidden=4, word_dim=4, **more),
    **{
        name: lambda folders, name=name, **more: PretrainedText(folders(name), **more)
        for name in ("bert", "clip", "siglip", "t5")
    },
}


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
class TestEncoders:
    def test_disturb_training_alone(self, make, folders):
        encoder = make(folders, word_noise=1.0)
        encoder.learn_vocabulary(TEXTS)
        quiet = make(folders)
        quiet.learn_vocabulary(TEXTS)
        quiet.load_state_dict(encoder.state_dict())
        expected = quiet.eval()(TEXTS)
        for _ in range(2):
            features = encoder.train()(TEXTS)
            assert torch.isfinite(features.tokens).all()
            assert features.mask.any(dim=1).all()
            assert features.tokens.shape[:2] == features.mask.shape
            assert int(features.mask.sum()) < int(expected.mask.sum())
        assert torch.equal(encoder.eval()(TEXTS).tokens, expected.tokens)

    @pytest.mark.parametrize("share", [-0.1, 1.5])
    def test_no_share_is_refused(self, make, share, folders):
        with pytest.raises(InputError, match=f"word_noise is {share}; it must be at"):
            make(folders, word_noise=share)


def test_without_noise_no_random_number_is_drawn():
    encoder = ENCODERS["RecurrentText"](None)
    encoder.learn_vocabulary(TEXTS)
    state = torch.get_rng_state()
    encoder.train()(TEXTS)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tokeniser_without_mask_or_unknown_word_is_refused(folder_copy):
    """As CLIP's, whose unknown word is its end."""
    from transformers import AutoTokenizer

    folder = folder_copy("clip")
    tokeniser = AutoTokenizer.from_pretrained(folder)
    tokeniser.unk_token = tokeniser.eos_token
    tokeniser.save_pretrained(folder)
    PretrainedText(folder)
    with pytest.raises(InputError, match=r"knows neither a mask .*: set word_noise: 0"):
        PretrainedText(folder, word_noise=0.2)


class TestTextCache:
    @pytest.fixture
    def asked(self):
        return []

    @pytest.fixture
    def cache(self, asked):
        def tokenise(texts):
            asked.extend(texts)
            return [array("i", map(ord, text)) for text in texts]

        return TextCache(tokenise, most=2)

    def test_tokenises_a_text_once(self, cache, asked):
        assert [list(row) for row in cache(["a", "bc", "a"])] == [[97], [98, 99], [97]]
        assert [list(row) for row in cache(["bc", "a"])] == [[98, 99], [97]]
        assert asked == ["a", "bc"]

    def test_keeps_no_more_than_it_may(self, cache, asked):
        for _ in range(2):
            assert [row[0] for row in cache(["a", "b", "c", "d"])] == [97, 98, 99, 100]
            assert cache(["d"])[0][0] == 100
        assert asked == ["a", "b", "c", "d", "d", "c", "d", "d"]


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_what_is_kept_of_texts_is_not_pickled(make, folders):
    encoder = make(folders)
    encoder.learn_vocabulary(TEXTS)
    encoder(["a dog and a ball"])
    assert b"a dog and a ball" not in pickle.dumps(encoder)
    assert encoder(["a dog and a ball"]).mask.sum() >= 5
