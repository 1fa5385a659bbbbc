"""Everything that YAML and flags can choose."""

import json
import re
from inspect import signature

import pytest
import torch
import yaml
from pytorch_lightning import Trainer

from itm_lightning import Matcher, list_registered
from itm_lightning.cli import main
from itm_lightning.cli.command import ITMCLI

# Parts that are made of others are given those too; the largest are made smaller.
SIMILARITIES = {name: [name] for name in list_registered("similarity")} | {
    "Ensemble": ["Ensemble", '--model.similarity.heads=[{"class_path": "Cosine"}]'],
    "FashionBERT": ["FashionBERT", "--model.similarity.layers=2"],
    "SGR": ["SGR", "--model.similarity.sim_dim=16"],
    "TransformerMatching": ["TransformerMatching", "--model.similarity.width=64"],
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_is_swapped_by_one_flag(run, tiny_config, name):
    tiny_config["trainer"].update(limit_train_batches=2, num_sanity_val_steps=0)
    folder = run("fit", "--config", tiny_config, "--model.similarity", *SIMILARITIES[name])
    matcher = Matcher.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert type(matcher.similarity).__name__ == name
    assert "test/rsum" in json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("name", ["Triplet", "InfoNCE", "Sigmoid", "MatchProbability"])
def test_an_objective_is_swapped_by_one_flag(run, tiny_config, name):
    tiny_config["trainer"].update(limit_train_batches=2, num_sanity_val_steps=0)
    folder = run("fit", "--config", tiny_config, "--model.objective", name)
    matcher = Matcher.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert type(matcher.objective).__name__ == name


def test_objectives_are_summed(run, tiny_config):
    parts = [{"class_path": "Triplet", "init_args": {"warmup_steps": 2}}, {"class_path": "InfoNCE"}]
    tiny_config["model"]["objective"] = {
        "class_path": "WeightedSum",
        "init_args": {"objectives": parts, "weights": [1.0, 0.5]},
    }
    folder = run("fit", "--config", tiny_config)
    matcher = Matcher.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert len(list(matcher.objective.children())) > 0


def test_a_similarity_from_the_users_own_file(run, tiny_config, tmp_path):
    (tmp_path / "my_file.py").write_text(
        "from itm_lightning.similarity import Cosine\n"
        "class MyHead(Cosine):\n"
        "    def score(self, images, texts):\n"
        "        return 2 * super().score(images, texts)\n"
    )
    folder = run("fit", "--config", tiny_config, "--model.similarity", "my_file.MyHead")
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["matcher"]["config"]["similarity"]["class_path"] == "my_file.MyHead"


def test_flags_override_a_config_that_comes_after_them(run, tiny_config):
    flags = ["--data.source.train=13", "--model.similarity", "DotProduct"]
    folder = run("fit", *flags, "--config", tiny_config, "--data.source.val", 11)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    source = config["data"]["source"]["init_args"]
    assert (source["train"], source["val"]) == (13, 11)
    assert source["test"] == tiny_config["data"]["source"]["init_args"]["test"]
    assert config["model"]["similarity"]["class_path"].endswith("DotProduct")


@pytest.mark.parametrize("where", ["yaml", "flag"])
def test_a_single_callback_needs_no_list(run, tiny_config, where):
    single = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/rsum"}}
    if where == "yaml":
        tiny_config["trainer"]["callbacks"] = single
    flags = [f"--trainer.callbacks={json.dumps(single)}"] if where == "flag" else []
    folder = run("fit", "--config", tiny_config, *flags)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert any(name.startswith("EarlyStopping") for name in checkpoint["callbacks"])


def test_a_config_is_composed_from_parts(run, tiny_config, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "data.yaml").write_text(yaml.safe_dump(tiny_config["data"]))
    tiny_config["data"] = "parts/data.yaml"
    folder = run("fit", "--config", tiny_config, "--config", {"data": {"batch_size": 7}})
    data = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    assert data["batch_size"] == 7
    assert data["source"]["init_args"]["train"] == 8


def test_the_saved_config_starts_the_same_run_again(run, tiny_config):
    first = run("fit", "--config", tiny_config)
    again = run("fit", "--config", first / "config.yaml")
    assert (first / "metrics.json").read_text() == (again / "metrics.json").read_text()


def test_print_config_is_yaml(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--model.similarity", "Cosine", "--print_config"])
    assert stopped.value.code == 0
    assert "Cosine" in yaml.safe_load(capsys.readouterr().out)["model"]["similarity"]["class_path"]


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_lower_precision(run, tiny_config, precision):
    folder = run("fit", "--config", tiny_config, "--trainer.precision", precision)
    assert json.loads((folder / "metrics.json").read_text())["train/loss"] > 0


def test_parts_learn_at_their_own_rate(run, tiny_config):
    tiny_config["model"]["lr_factors"] = {"image_encoder.network": 0.0}
    folder = run("fit", "--config", tiny_config)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    rates = {group["lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]}
    assert rates == {0.0, 1e-3}


def test_a_schedule_runs_over_the_whole_run(run, tiny_config):
    tiny_config["model"]["scheduler"] = "itm_lightning.training.WarmupCosine"
    tiny_config["trainer"]["max_epochs"] = 2
    folder = run("fit", "--config", tiny_config)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    schedule = checkpoint["lr_schedulers"][0]
    assert schedule["total_steps"] == schedule["last_epoch"] == 2 * 8 * 5 // 8
    assert schedule["_last_lr"] == [pytest.approx(0.0, abs=1e-9)]


def test_gradients_are_clipped_and_accumulated(run, tiny_config):
    flags = ["--trainer.gradient_clip_val=0.1", "--trainer.accumulate_grad_batches=2"]
    folder = run("fit", "--config", tiny_config, *flags)
    assert (folder / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
def test_compiled_parts_train_and_score(run, tiny_config):
    plain = run("fit", "--config", tiny_config)
    compiled = run("fit", "--config", tiny_config, "--model.compile", "true")
    losses = [
        json.loads((folder / "metrics.json").read_text())["train/loss"]
        for folder in (plain, compiled)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    Matcher.load_from_checkpoint(compiled / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("command", ITMCLI.subcommands())
def test_help_has_every_key_and_those_that_most_runs_set_first(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    often, _, seldom = printed.partition("\nseldom set:")
    first = re.findall(r"^  (?:-h, )?--([\w.]+)", often, re.MULTILINE)
    assert first.index("model.similarity") < first.index("data.source")
    assert first.index("data.source") < first.index("trainer.max_epochs")
    assert set(signature(Trainer).parameters) | {"float32_matmul_precision"} == {
        key.partition(".")[2]
        for key in re.findall(r"^  --([\w.]+)", printed, re.MULTILINE)
        if key.startswith("trainer.")
    }
    assert "--trainer.plugins" in seldom
    assert ("A checkpoint by its path" in often) == ("\n  --ckpt_path" in printed)
    assert "registry" not in printed.partition("--ckpt_path")[2].partition("--trainer")[0]
    for name in list_registered("similarity"):
        assert re.search(rf"\b{name}\b", often)
    assert "itm_lightning.similarity" not in printed
