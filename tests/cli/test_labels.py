"""Objectives from class labels, through the command line: refused without, kept in checkpoints."""

import pytest
import torch

from itm_lightning import Matcher
from itm_lightning.data import Scenes


@pytest.mark.parametrize(
    "objective",
    ["DSCMR", {"class_path": "WeightedSum", "init_args": {"objectives": ["InfoNCE", "DSCMR"]}}],
    ids=["alone", "in a sum"],
)
def test_a_source_without_classes_is_refused(refuse, tiny_config, karpathy_root, objective):
    source = {"class_path": "Karpathy", "init_args": {"root": str(karpathy_root)}}
    tiny_config["model"]["objective"], tiny_config["data"]["source"] = objective, source
    said = refuse("fit", "--config", tiny_config)
    assert "DSCMR learns from class labels, and Karpathy has none" in said
    assert "Coco" in said
    assert "Scenes" in said


def test_a_width_other_than_the_number_of_classes_is_refused(refuse, tiny_config):
    tiny_config["model"]["objective"] = "DeepSemanticMapping"
    assert "set model.dim" in refuse("fit", "--config", tiny_config)


def test_the_checkpoint_holds_classes_and_weights_of_the_objective(run, tiny_config):
    tiny_config["model"]["objective"] = {
        "class_path": "WeaklyAligned",
        "init_args": {"components": 2, "bank": 8},
    }
    fitted = run("fit", "--config", tiny_config)
    matcher = Matcher.load_from_checkpoint(fitted / "checkpoints" / "best.ckpt")
    objective = matcher.objective
    assert objective.class_names == tuple(Scenes().class_names)
    saved = torch.load(fitted / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert objective.classifier.weight.equal(saved["objective.classifier.weight"])
    assert objective.seen > 8
    assert objective.means.abs().sum() > 0
