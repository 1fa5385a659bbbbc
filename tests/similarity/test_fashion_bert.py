"""FashionBERT, and the word pieces that it reads, against BERT written out and BERT itself."""

import math
import shutil

import pytest
import torch

from itm_lightning.encoders import WordPieces
from itm_lightning.errors import InputError
from itm_lightning.part import from_config, skip_pretrained, to_config
from itm_lightning.similarity import FashionBERT
from itm_lightning.types import Features
from tests.encoders.conftest import bert
from tests.made_up import made_up_features

IMAGES, TEXTS = made_up_features(3, 5, seed=1), made_up_features(4, 4, seed=2)
SENTENCES = ["a dog's ball.", "two men", "a man in a red hat"]


@pytest.fixture
def head():
    return FashionBERT(8, layers=2, patches=5).double().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    for part in bert(transformers):
        part.save_pretrained(folder)
    return str(folder)


def slow_layer(tokens, layer):
    """All tokens, one by one; BERT normalises after each sum."""
    attention = layer.attention.self
    found = []
    for token in tokens:
        logits = [
            attention.query(token) @ attention.key(other) / math.sqrt(len(token))
            for other in tokens
        ]
        powers = torch.stack(logits).softmax(0)
        seen = sum(p * attention.value(o) for p, o in zip(powers, tokens, strict=True))
        output = layer.attention.output
        token = slow_bert_norm(output.dense(seen) + token, output.LayerNorm)
        wide = layer.intermediate.dense(token)
        wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
        found.append(slow_bert_norm(layer.output.dense(wide) + token, layer.output.LayerNorm))
    return found


def slow_bert_norm(vector, norm):
    centred = vector - vector.mean()
    return centred / (centred.square().mean() + 1e-12).sqrt() * norm.weight + norm.bias


def slow_score(head, patches, words):
    def embedded(tokens, positions, side, norm):
        return [
            slow_bert_norm(token + positions.weight[place] + head.types.weight[side], norm)
            for place, token in enumerate(tokens)
        ]

    tokens = embedded(words, head.word_positions, 0, head.text_norm)
    tokens += embedded(patches, head.patch_positions, 1, head.image_norm)
    for layer in head.bert.encoder.layer:
        tokens = slow_layer(tokens, layer)
    return head.match(head.pooler(tokens[0]).tanh())


@torch.no_grad()
def test_equals_bert_written_out(head):
    for parameter in head.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    scores = head(IMAGES, TEXTS)
    assert scores.std() > 0.01
    for i in range(3):
        for j in range(4):
            patches = IMAGES.tokens[i, IMAGES.mask[i]].double()
            words = TEXTS.tokens[j, TEXTS.mask[j]].double()
            expected = slow_score(head, patches, words).item()
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_without_patches_it_is_the_bert_that_it_starts_from(folder):
    from transformers import AutoTokenizer, BertModel

    pieces, head = WordPieces(folder, dim=16).eval(), FashionBERT(16, folder).eval()
    model, tokeniser = BertModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    nothing = Features(torch.randn(3, 4, 16), torch.zeros(3, 4, dtype=torch.bool), None)
    words = pieces(SENTENCES)
    states = head.states(head.prepare_images(nothing), head.prepare_texts(words))
    expected = model(**tokeniser(SENTENCES, padding=True, return_tensors="pt"))
    real = words.mask
    torch.testing.assert_close(states[:, : real.shape[1]][real], expected.last_hidden_state[real])
    pooled = head.pooler(states[:, 0]).tanh()
    torch.testing.assert_close(pooled, expected.pooler_output)


def test_a_checkpoint_needs_neither_folder_nor_hub(folder, tmp_path):
    gone = str(shutil.copytree(folder, tmp_path / "gone"))
    pieces, head = WordPieces(gone, dim=16).eval(), FashionBERT(16, gone).eval()
    images = made_up_features(3, 4, dim=16)
    expected = head(images, pieces(SENTENCES))
    shutil.rmtree(gone)
    with skip_pretrained():
        others = [from_config(to_config(part)) for part in (pieces, head)]
    for other, part in zip(others, (pieces, head), strict=True):
        other.load_extra_state(part.extra_state())
        other.load_state_dict(part.state_dict())
        other.eval()
    torch.testing.assert_close(others[1](images, others[0](SENTENCES)), expected)


def test_dropout_is_the_same_in_the_backward_pass(head, monkeypatch):
    """Tiles are computed twice, and the second time with the first time's random numbers."""

    def gradients(scores):
        torch.manual_seed(0)
        head.zero_grad()
        scores(IMAGES, TEXTS).sum().backward()
        return [p.grad.clone() for p in head.parameters()]

    head.train()
    monkeypatch.setattr("itm_lightning.similarity.cross_encoder.recomputed", lambda f, random: f)
    expected = gradients(head)
    monkeypatch.undo()
    torch.testing.assert_close(gradients(head), expected)


def test_word_pieces_learn_the_words_of_the_training_texts():
    pieces = WordPieces(dim=6)
    pieces.learn_vocabulary(["A red dog.", "a red ball"])
    assert pieces.dim == pieces(["red"]).tokens.shape[-1] == 6
    words = [[token.text for token in row] for row in pieces.words(["A red cat!", "dog."])]
    assert words == [
        ["[CLS]", "a", "red", "[UNK]", "[UNK]", "[SEP]"],
        ["[CLS]", "dog", ".", "[SEP]"],
    ]
    before = pieces.state_dict()
    pieces.learn_vocabulary(["other words"])
    torch.testing.assert_close(pieces.state_dict(), before, rtol=0, atol=0)


def test_each_piece_stands_by_itself():
    """The word ``a`` is the same vector in any text: nothing tells of a word that is masked."""
    pieces = WordPieces(dim=6)
    pieces.learn_vocabulary(["a red dog", "a ball"])
    tokens = pieces(["a red dog", "a ball"]).tokens
    assert tokens[0, :2].equal(tokens[1, :2])


def test_what_does_not_fit_is_refused(folder, head):
    with pytest.raises(
        InputError, match=r"got an image of 7 patches: set model.similarity.patches"
    ):
        head(made_up_features(2, 7), TEXTS)
    with pytest.raises(InputError, match=r"is 16 wide, but dim is 8: set model.dim to 16"):
        FashionBERT(8, folder)
    with pytest.raises(InputError, match="is 16 wide, not 8: set dim to that"):
        WordPieces(folder, dim=8)
    with pytest.raises(InputError, match="FashionBERT: dim is 129"):
        FashionBERT(129)
    with pytest.raises(InputError, match="layers is 0"):
        FashionBERT(8, layers=0)
