"""Numbers that are not finite end what would go on with them, and name where they are from."""

import pytest
import torch

from itm_lightning import Matcher
from itm_lightning.cli import main
from itm_lightning.errors import InputError
from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.similarity import Cosine, DotProduct, Ensemble, Euclidean
from itm_lightning.types import Features

HUGE = 3e38


def features(value):
    rows = torch.ones(4, 3)
    rows[1, 2] = value
    return Features.from_pooled(rows)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, HUGE])
@pytest.mark.parametrize("head", [Cosine(), DotProduct(), Euclidean()], ids=repr)
def test_scores_that_are_not_finite_name_the_head(head, value):
    for images, texts in ((features(value), features(1.0)), (features(1.0), features(value))):
        recall = BidirectionalRecall(head)
        recall.update(images, texts, torch.arange(4), torch.arange(4))
        with pytest.raises(InputError, match=type(head).__name__):
            recall.compute()


def test_of_an_ensemble_the_member_is_named():
    recall = BidirectionalRecall(Ensemble([Cosine(), DotProduct()]))
    ids = torch.arange(4)
    recall.update(features(1e18), features(1.0), ids, ids)
    recall.compute()  # large, and finite
    recall = BidirectionalRecall(Ensemble([Cosine(), DotProduct()]))
    recall.update(features(1e18), features(1e18).map(lambda x: 1e18 * x), ids, ids)
    with pytest.raises(InputError, match=r"DotProduct|Cosine"):
        recall.compute()


@pytest.mark.parametrize("weights", ["[.nan, 1]", "[1, .inf]", "[1, -1]", "[1, 0]"])
def test_weights_of_an_ensemble_are_finite_and_above_0(foreign, refused, weights):
    path = foreign()
    flags = f"--ensemble.checkpoints=[{path}]", f"--ensemble.weights={weights}"
    assert "--ensemble.weights" in refused("test", f"--ckpt_path={path}", *flags)


def test_a_fit_that_diverges_ends_and_leaves_the_last_good_checkpoint(fitted, refused, tmp_path):
    config = ["fit", "--config", fitted / "config.yaml", "--last_checkpoint.steps=1"]
    folder = [f"--trainer.default_root_dir={tmp_path}", "--run_name=r"]
    start = "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e38"
    line = refused(*config, *folder, *start, "--model.scheduler=null", "--trainer.max_epochs=5")
    assert "training has diverged" in line
    assert "learning rate" in line
    last = tmp_path / "r" / "checkpoints" / "last.ckpt"
    if last.exists():  # of a step before
        state = Matcher.load_from_checkpoint(last).state_dict()
        assert all(value.isfinite().all() for value in state.values())


def test_weights_that_are_not_finite_replace_no_checkpoint(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "breaking.py").write_text(BREAKING)
    monkeypatch.syspath_prepend(tmp_path)
    command = ["fit", "--config", str(fitted / "config.yaml"), "--run_name=r"]
    main([*command, "--trainer.max_epochs=1"])
    last = tmp_path / "runs" / "r" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    callback = "--trainer.callbacks=breaking.Breaking"
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "fit",
                f"--ckpt_path={last}",
                "--run_name=s",
                "--trainer.max_epochs=3",
                callback,
                "--last_checkpoint.steps=1",
            ]
        )
    assert stopped.value.code == 2
    assert not (tmp_path / "runs" / "s" / "checkpoints" / "last.ckpt").exists()
    assert last.read_bytes() == before


def test_commands_name_the_head_whose_scores_are_not_finite(foreign, refused):
    def change(content):
        content.pop("checksums")
        weights = content["state_dict"]["text_projection.linear.weight"]
        content["state_dict"] = {
            **content["state_dict"],
            "text_projection.linear.weight": torch.full_like(weights, torch.nan),
        }

    path = foreign(change)
    for command in ("test", "predict"):
        assert "CrossAttention gave a NaN score" in refused(command, f"--ckpt_path={path}")


BREAKING = """
import torch
from pytorch_lightning import Callback
class Breaking(Callback):
    def on_before_zero_grad(self, trainer, module, optimizer):
        with torch.no_grad():
            next(iter(module.parameters())).fill_(float("nan"))
"""
