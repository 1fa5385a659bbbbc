"""Every config in experiments/ runs through the real command line, made small by flags."""

import json

import pytest

from itm_lightning.cli import main
from tests.conftest import REPO
from tests.encoders.conftest import bert

EXPERIMENTS = REPO / "experiments"
CONFIGS = sorted(
    path
    for path in EXPERIMENTS.rglob("*.yaml")
    # parts of configs; a sweep's; what tests/encoders/test_joint_space.py runs
    if path.parent.name not in ("base", "slurm", "zero_shot")
)
SMALL = [
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.limit_train_batches=2",
    "--data.batch_size=8",
]
FLAGS = {
    # With random weights, the many layers of its CNN give zeros, in which nothing correlates.
    "flickr8k/cca.yaml": ["--model.image_encoder.name=alexnet", "--model.text_encoder.dim=64"],
    "flickr8k/minilm.yaml": ["--model.text_encoder.name={bert}"],
}


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("bert")
    for part in bert(transformers):
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.relative_to(EXPERIMENTS).as_posix())
def test_config_runs(config, karpathy_root, tiny_bert, tmp_path):
    args = ["fit", f"--config={config}", f"--trainer.default_root_dir={tmp_path}", *SMALL]
    if config.parent.name == "flickr8k":
        args += [f"--data.source.root={karpathy_root}", "--model.image_encoder.weights=null"]
    else:
        args += [f"--data.source.{split}=16" for split in ("train", "val", "test")]
    flags = FLAGS.get(config.relative_to(EXPERIMENTS).as_posix(), [])
    main(args + [flag.format(bert=tiny_bert) for flag in flags])
    (results,) = tmp_path.glob("*/test_results.json")
    images = 8 if config.parent.name == "flickr8k" else 16
    assert json.loads(results.read_text())["queries"] == {"i2t": images, "t2i": 5 * images}


def test_every_part_in_base_is_used():
    used = "".join(path.read_text() for path in CONFIGS)
    for part in (EXPERIMENTS / "base").glob("*.yaml"):
        assert f"base/{part.name}" in used
