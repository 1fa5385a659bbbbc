"""FashionBERTLoss, against its losses written out for what it has hidden."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from itm_lightning.encoders.base import Token
from itm_lightning.errors import InputError
from itm_lightning.objectives import FashionBERTLoss, LocalComparison, adaptive_weights
from itm_lightning.objectives import fashion_bert as module
from itm_lightning.objectives.fashion_bert import divergences, some_of
from itm_lightning.similarity import Cosine, FashionBERT
from itm_lightning.types import Features, Widths
from tests.made_up import encoded_batch, made_up_features

# [CLS] play ##ing dogs [SEP], and so on: ids, strings, and which word each piece belongs to
TEXTS = [["play", "##ing", "dogs"], ["dogs"], ["a", "cat", "##s", "##y"]]
WORD = [[-1, 0, 0, 1, -1, -1], [-1, 0, -1, -1, -1, -1], [-1, 0, 1, 1, 1, -1]]
IDS = torch.tensor([[0, 5, 6, 7, 1, 9], [0, 7, 1, 9, 9, 9], [0, 8, 3, 4, 2, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1] * 6]).bool()


@pytest.fixture
def objective():
    torch.manual_seed(0)
    objective = FashionBERTLoss(vocabulary=10, words=0.5, patches=0.4)
    objective.build(Widths(5, 8, 8, 8))
    return objective


@pytest.fixture
def head():
    torch.manual_seed(1)
    head = FashionBERT(8, layers=1).eval()
    for parameter in head.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return head


def compared(head, labels=None, image_ids=None, padding=0):
    """Images of 4 patches that the encoder gives in 5 numbers each."""
    images, texts = (
        made_up_features(3, 4, seed=1),
        Features(torch.randn(3, 6 + padding, 8), F.pad(MASK, (0, padding)), None),
    )
    encoded = encoded_batch(images, texts, image_ids, labels=labels)
    words = [
        [Token("[CLS]", True), *(Token(piece, False) for piece in pieces), Token("[SEP]", True)]
        for pieces in TEXTS
    ]
    encoded = replace(
        encoded,
        encoded_images=made_up_features(3, 4, dim=5, seed=3),
        token_ids=lambda texts: (IDS, MASK),
        words=lambda texts: words,
    )
    return LocalComparison(head, encoded)


@torch.no_grad()
@pytest.mark.parametrize("padding", [0, 2])
def test_equals_the_losses_written_out(objective, head, monkeypatch, padding):
    comparison = compared(head, padding=padding)
    masked_words, masked_patches = [{1}, {0}, {0, 1}], [{0, 3}, {0}, {1}]

    def fixed(mask, count):
        rows = masked_patches if mask.shape[1] == 4 else masked_words
        return torch.tensor([[i in row for i in range(mask.shape[1])] for row in rows])

    monkeypatch.setattr(module, "some_of", fixed)
    wrong = torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1])
    monkeypatch.setattr(module, "_others", lambda comparison: wrong)
    pairs = [(i, i, 1) for i in range(3)] + [(i, int(wrong[1][i]), 0) for i in range(3)]
    matching = of_words = of_patches = 0.0
    n_words = n_patches = 0
    for i, j, matches in pairs:
        patches = comparison.images.tokens[i].clone()
        words = comparison.texts.tokens[j].clone()
        gone_patches = sorted(masked_patches[i])
        gone_words = [k for k in range(6) if WORD[j][k] in masked_words[j]]
        patches[gone_patches] = 0
        words[gone_words] = objective.mask_token
        images = Features(patches[None], comparison.images.mask[i : i + 1], None)
        texts = Features(words[None], comparison.texts.mask[j : j + 1], None)
        (states,) = head.states(head.prepare_images(images), head.prepare_texts(texts))
        probability = torch.sigmoid(head.log_odds(states[None]))[0].item()
        matching -= math.log(probability if matches else 1 - probability) / 6
        for k in gone_words:
            of_words -= objective.word_logits(states[k]).log_softmax(0)[IDS[j, k]].item()
            n_words += 1
        for k in gone_patches:
            target = comparison.encoded.encoded_images.tokens[i, k].softmax(0).tolist()
            found = objective.patch_logits(states[6 + padding + k]).softmax(0).tolist()
            of_patches += sum(p * math.log(p / q) for p, q in zip(target, found, strict=True))
            n_patches += 1
    losses = [matching, of_words / n_words, of_patches / n_patches]
    (sums, counts) = objective.sums(comparison)
    found = [float(s / c) for s, c in zip(sums, counts, strict=True)]
    assert found == pytest.approx(losses, rel=1e-5)
    powers = [math.exp(each) for each in losses]
    inverse = [1 / (3 - (power / sum(powers)) ** 2) for power in powers]
    expected = sum(w * each for w, each in zip(inverse, losses, strict=True)) / sum(inverse)
    assert objective.loss(comparison).item() == pytest.approx(expected, rel=1e-5)


def test_adaptive_weights_by_hand():
    weights = adaptive_weights(torch.tensor([math.log(2), 0.0, 0.0]))  # softmax: 1/2, 1/4, 1/4
    inverse = [1 / 2.75, 1 / (3 - 1 / 16), 1 / (3 - 1 / 16)]
    assert weights.tolist() == pytest.approx([each / sum(inverse) for each in inverse])
    extreme = adaptive_weights(torch.tensor([100.0, 0.0, 0.0]))
    assert extreme.tolist() == pytest.approx([3 / 7, 2 / 7, 2 / 7])


def test_no_gradient_flows_through_the_weights():
    losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    weights = adaptive_weights(losses)
    assert not weights.requires_grad
    (weights * losses).sum().backward()
    assert losses.grad.equal(weights)


@torch.no_grad()
def test_shares_of_processes_add_up_to_the_loss_of_one(objective, monkeypatch):
    sums = torch.tensor([[4.0, 1.0, 2.0], [2.0, 6.0, 0.5]])
    counts = torch.tensor([[8, 2, 4], [6, 4, 1]])

    class Share:
        def __init__(self, rows):
            self.rows = rows

        def total(self, share):  # asked for the counts, and then for the losses
            integer = not share.is_floating_point()
            return counts.sum(0) if integer else sums.sum(0) / counts.sum(0)

    def of_share(share):
        return list(sums[share.rows].sum(0)), list(counts[share.rows].sum(0))

    monkeypatch.setattr(objective, "sums", of_share)
    one, first, second = (objective.loss(Share(rows)) for rows in ([0, 1], [0], [1]))
    torch.testing.assert_close(first + second, one)


def test_hides_whole_words_and_no_mark(objective, head):
    for _ in range(20):
        words = objective._masked_words(torch.tensor(WORD))
        for row, hidden in zip(WORD, words.tolist(), strict=True):
            gone = {w for w, h in zip(row, hidden, strict=True) if h}
            assert len(gone) == 1  # half of two, of one, of two
            assert -1 not in gone
            assert hidden == [word in gone for word in row]


def test_some_places_are_each_as_likely():
    mask = torch.arange(6) < torch.tensor([[6], [3], [1]])
    drawn = torch.stack([some_of(mask, torch.tensor([2, 2, 0])) for _ in range(500)])
    assert (drawn.sum(dim=2) == torch.tensor([2, 2, 1])).all()
    assert not (drawn & ~mask).any()
    torch.testing.assert_close(
        drawn.float().mean(0)[:2],
        torch.tensor([[1 / 3] * 6, [2 / 3] * 3 + [0] * 3]),
        atol=0.07,
        rtol=0,
    )


def test_wrong_pairs_are_of_other_images_and_of_a_shared_class(head):
    ids = torch.tensor([7, 7, 9])
    for _ in range(10):
        rows, texts = module._others(compared(head, image_ids=ids))
        assert rows.tolist() == [0, 1, 2]
        assert (ids[rows] != ids[texts]).all()
    labels = torch.tensor([[1, 0], [0, 1], [1, 1]]).bool()
    rows, texts = module._others(compared(head, labels=labels))
    assert texts.tolist()[:2] == [2, 2]
    alone = module._others(compared(head, image_ids=torch.tensor([7, 7, 7])))
    assert [len(side) for side in alone] == [0, 0]


def test_every_weight_learns(objective, head):
    objective.loss(compared(head)).backward()
    assert not [n for n, p in objective.named_parameters() if p.grad is None]
    assert not [n for n, p in head.named_parameters() if p.grad is None]


def test_a_divergence_is_zero_between_equals():
    logits = torch.randn(4, 5)
    torch.testing.assert_close(divergences(logits, logits + 3), torch.zeros(4), atol=1e-6, rtol=0)


def test_what_it_cannot_learn_from_is_refused(objective, head):
    with pytest.raises(InputError, match=r"the head is Cosine: set model\.similarity to Fash"):
        objective.loss(compared(Cosine()))
    small = FashionBERTLoss(vocabulary=9)
    small.build(Widths(5, 8, 8, 8))
    with pytest.raises(InputError, match=r"met a word piece of id 9: set model\.objective\.voc"):
        small.loss(compared(head))
    comparison = compared(head)
    cached = replace(comparison.encoded, encoded_images=None)
    with pytest.raises(InputError, match=r"leave model\.gradient_cache out"):
        objective.loss(LocalComparison(head, cached))
    with pytest.raises(InputError, match="words 0"):
        FashionBERTLoss(words=0)
