"""Extra state of any part goes into the checkpoint, and back into the part."""

import pytest
import pytorch_lightning as pl
import torch

from itm_lightning import Matcher
from itm_lightning.encoders import RecurrentText, RegionFeatures
from itm_lightning.errors import InputError
from itm_lightning.part import extra_states_of, load_extra_states
from itm_lightning.pooling import MeanPooling
from itm_lightning.similarity import Cosine
from tests.made_up import made_up_features


class NamedPooling(MeanPooling):
    """A pooling that has learnt names."""

    names: tuple[str, ...] = ()

    def extra_state(self):
        return {"names": list(self.names)} if self.names else {}

    def load_extra_state(self, state):
        self.names = tuple(state["names"])


class TopicHead(Cosine):
    """A head that has learnt topics."""

    topics: int = 0

    def extra_state(self):
        return {"topics": self.topics} if self.topics else {}

    def load_extra_state(self, state):
        self.topics = state["topics"]


def matcher():
    return Matcher(
        RegionFeatures(dim=5, pooling=NamedPooling()),
        RecurrentText(hidden=3, word_dim=4),
        TopicHead(),
        dim=6,
    )


@pytest.fixture
def checkpoint(tmp_path):
    model = matcher()
    model.text_encoder.learn_vocabulary(["a red ring", "blue"])
    model.image_encoder.pooling.names = ("cat", "dog")
    model.similarity.topics = 7
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt", model


def test_a_pooling_a_head_and_an_encoder_come_back(checkpoint):
    path, model = checkpoint
    again = Matcher.load_from_checkpoint(path)
    assert again.image_encoder.pooling.names == ("cat", "dog")
    assert again.similarity.topics == 7
    assert again.text_encoder.vocabulary.words == model.text_encoder.vocabulary.words
    images = made_up_features(2, 3, dim=5)
    torch.testing.assert_close(again(images, ["blue"]), model.eval()(images, ["blue"]))


def test_states_are_by_module_path_and_empty_ones_are_left_out(checkpoint):
    states = extra_states_of(checkpoint[1])
    assert list(states) == ["similarity", "image_encoder.pooling", "text_encoder"]
    assert extra_states_of(matcher()) == {}


def test_a_state_without_its_part_is_refused():
    with pytest.raises(InputError, match=r"a part image_encoder\.topics, which"):
        load_extra_states(matcher(), {"image_encoder.topics": {}})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: c["matcher"].pop("version"), r"another version of itm-lightning \(layout 1"),
        (lambda c: c["matcher"].update(version=9), r"another version of itm-lightning \(layout 9"),
        (lambda c: c.pop("matcher"), "was not written by itm-lightning"),
    ],
    ids=["older", "newer", "foreign"],
)
def test_another_layout_is_refused_in_one_line(checkpoint, change, what):
    path, _ = checkpoint
    changed = torch.load(path, weights_only=True)
    change(changed)
    torch.save(changed, path)
    with pytest.raises(InputError, match=rf"model\.ckpt .*{what}"):
        Matcher.load_from_checkpoint(path)
