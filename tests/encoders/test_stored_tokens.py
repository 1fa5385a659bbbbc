"""Tokens of a frozen text model on disk: the same features, computed once."""

import pytest
import torch

from itm_lightning.encoders import PretrainedText, pretrained_text
from itm_lightning.encoders.stored_tokens import StoredTokens
from itm_lightning.errors import InputError
from itm_lightning.explain.words import text_inputs
from tests.encoders.conftest import TEXTS


def encode(texts):
    """One token a letter: its code, and the length of the text."""
    length = max(map(len, texts))
    tokens = torch.zeros(len(texts), length, 2)
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        mask[row, : len(text)] = True
        tokens[row, : len(text), 0] = torch.tensor([float(ord(letter)) for letter in text])
        tokens[row, : len(text), 1] = len(text)
    return tokens, mask


def refuse(texts):
    raise AssertionError(f"{texts} are stored")


def test_tokens_come_back_without_being_computed_again(tmp_path):
    store = StoredTokens(tmp_path, dim=2)
    asked = []
    first = store(["ab", "c\u2028d", "ab"], lambda texts: asked.append(texts) or encode(texts))
    assert asked == [["ab", "c\u2028d"]]
    tokens, mask = encode(["ab", "c\u2028d", "ab"])
    assert torch.equal(first[0], tokens)
    assert torch.equal(first[1], mask)
    store(["e"], encode)
    for later in (store, StoredTokens(tmp_path, dim=2)):
        tokens, mask = later(["e", "ab"], refuse)
        assert torch.equal(tokens, encode(["e", "ab"])[0])
        assert torch.equal(mask, encode(["e", "ab"])[1])


def test_a_line_that_was_not_finished_is_no_text(tmp_path):
    StoredTokens(tmp_path, dim=2)(["ab", "cd"], encode)
    (index,) = tmp_path.glob("*.jsonl")
    index.write_text(index.read_text()[:-3])
    asked = []
    StoredTokens(tmp_path, dim=2)(["ab", "cd"], lambda t: asked.append(t) or encode(t))
    assert asked == [["cd"]]


def test_two_writers_do_not_disturb_each_other(tmp_path):
    one, two = StoredTokens(tmp_path, dim=2), StoredTokens(tmp_path, dim=2)
    one(["ab"], encode), two(["c"], encode), one(["d"], encode)
    tokens, _ = StoredTokens(tmp_path, dim=2)(["d", "c", "ab"], refuse)
    assert torch.equal(tokens, encode(["d", "c", "ab"])[0])


def test_another_file_is_refused_by_name(tmp_path):
    StoredTokens(tmp_path, dim=2)(["ab"], encode)
    with pytest.raises(InputError, match=r"stored tokens in .* remove the folder"):
        StoredTokens(tmp_path, dim=3)


def test_a_frozen_model_gives_the_same_features_from_its_store(folders, tmp_path):
    folder, store = folders("bert"), tmp_path / "store"
    plain = PretrainedText(folder, trainable=False)
    stored = PretrainedText(folder, trainable=False, store=str(store))
    stored.eval()
    stored(TEXTS)
    assert not store.exists()  # evaluation alone makes no folder
    stored.train()
    stored(TEXTS)
    again = PretrainedText(folder, trainable=False, store=str(store)).eval()
    again.network.forward = refuse
    expected, found = plain.eval()(TEXTS), again(TEXTS)
    assert torch.equal(found.mask, expected.mask)
    torch.testing.assert_close(
        found.tokens[found.mask], expected.tokens[found.mask], rtol=0, atol=2e-3
    )
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=0, atol=2e-3)


def test_other_weights_have_other_tokens(folders, tmp_path):
    PretrainedText(folders("bert"), trainable=False, store=str(tmp_path)).train()(TEXTS)
    other = PretrainedText(folders("bert"), trainable=False, store=str(tmp_path))
    next(other.network.parameters()).data.add_(1.0)
    other.train()(TEXTS)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("changing", [{"trainable": True}, {"trainable": False, "word_noise": 0.2}])
def test_tokens_that_change_are_not_stored(changing, folders, tmp_path):
    with pytest.raises(InputError, match="leave store out"):
        PretrainedText(folders("bert"), store=str(tmp_path), **changing)


def test_inputs_that_an_explanation_changes_are_neither_read_from_the_store_nor_added(
    folders, tmp_path
):
    encoder = PretrainedText(folders("bert"), trainable=False, store=str(tmp_path)).train()
    expected = encoder(TEXTS[:1])
    encoder.eval()
    inputs = text_inputs(encoder, TEXTS[0])
    same, hidden = inputs.encode(torch.stack([inputs.values, inputs.hidden])).pooled
    torch.testing.assert_close(same, expected.pooled[0], rtol=0, atol=2e-3)
    assert (hidden - same).abs().max() > 0.01
    assert torch.equal(encoder(TEXTS[:1]).pooled, expected.pooled)


def test_one_map_serves_a_file_however_often_it_grows(tmp_path):
    store = StoredTokens(tmp_path, dim=2)
    for text in ("ab", "c", "def"):
        store([text], encode)
    assert len(store._maps) == 1
    tokens, _ = store(["def", "ab", "c"], refuse)
    assert torch.equal(tokens, encode(["def", "ab", "c"])[0])


def test_the_weights_are_hashed_once_also_without_a_folder(folders, tmp_path, monkeypatch):
    hashed = []
    whole = pretrained_text.tensors_sha256
    monkeypatch.setattr(
        pretrained_text, "tensors_sha256", lambda network: hashed.append(0) or whole(network)
    )
    encoder = PretrainedText(folders("bert"), trainable=False, store=str(tmp_path / "none")).eval()
    for _ in range(3):
        encoder(TEXTS)
    assert len(hashed) == 1
