"""Captions by a whole Matcher that was trained for a moment, from its checkpoint alone."""

import pytest
import pytorch_lightning as pl
import torch

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.captioning import beam_search, write_captions
from itm_lightning.data import Scenes
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.errors import InputError
from itm_lightning.objectives import SCNLM, InfoNCE, WeightedSum
from itm_lightning.objectives.caption_vocabulary import split_caption
from tests.test_readme import block

SOURCE = Scenes(train=8, val=4, test=2)


def matcher_of(objective):
    image_encoder = TorchvisionCNN("squeezenet1_1", image_size=64)
    return Matcher(image_encoder, RecurrentText(hidden=8, word_dim=8), objective=objective, dim=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("captions")


@pytest.fixture(scope="module")
def matcher(folder):
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder,
    )  # fmt: skip
    language = SCNLM(word_dim=4, hidden=8, factors=8, context=3, lookahead=2)
    trained = matcher_of(WeightedSum([InfoNCE(), language]))
    trainer.fit(trained, ITMDataModule(SOURCE, batch_size=8))
    trainer.save_checkpoint(folder / "captions.ckpt")
    return Matcher.load_from_checkpoint(folder / "captions.ckpt")


@pytest.fixture(scope="module")
def images():
    return [SOURCE.image(record) for record in SOURCE.records("test")]


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_a_seed_gives_the_same_captions_of_known_words(matcher, images, method):
    first, again = (
        write_captions(matcher, images, method=method, structures=3, width=2) for _ in range(2)
    )
    assert first == again
    assert len(first) == 2
    known = {*matcher.objective.objectives[1].vocabulary.words}
    assert all(set(split_caption(caption.text)) <= known for caption in first)
    other = write_captions(matcher, images, method="sample", structures=3, width=2, seed=7)
    assert other != first


@pytest.mark.parametrize("weight", [0.0, 0.7])
@torch.no_grad()
def test_the_best_of_all_candidates_is_kept(matcher, images, weight):
    model = matcher.objective.objectives[1]
    (caption,) = write_captions(
        matcher, images[:1], structures=4, width=2, similarity_weight=weight, length_power=0.5
    )
    tags = model.draw_structures(4, torch.Generator().manual_seed(0))
    embedding = matcher.encode_images(images[:1])
    candidates = {}
    for row in tags:
        following = model.next_word(model.content(embedding), row[None])
        found = beam_search(following, 1, 2, tags.shape[1], 0.5)
        for ids, log_prob, length in zip(
            found.ids[0], found.log_probs[0].tolist(), found.lengths[0].tolist(), strict=True
        ):
            text = model.vocabulary.decode(ids.tolist())
            score = matcher(images[:1], text).item()
            mixed = (1 - weight) * log_prob / length**0.5 + weight * score
            candidates[text] = max((mixed, log_prob, score), candidates.get(text, (-1e9,)))
    best = max(candidates, key=lambda text: candidates[text])
    assert caption.text == best
    assert (caption.score, caption.log_prob, caption.similarity) == pytest.approx(
        candidates[best], abs=1e-4
    )


def test_the_readme_writes_captions(matcher, images, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name, image in zip(("a.jpg", "b.jpg"), images, strict=True):
        image.save(name)
    names = {}
    exec(block("write_captions"), names)
    assert names["captions"] == write_captions(matcher, ["a.jpg", "b.jpg"])


def test_what_cannot_write_is_refused(matcher, images):
    with pytest.raises(InputError, match="no language model: train it with the objective SCNLM"):
        write_captions(matcher_of(InfoNCE()), images)
    with pytest.raises(InputError, match="similarity_weight 2"):
        write_captions(matcher, images, similarity_weight=2.0)
