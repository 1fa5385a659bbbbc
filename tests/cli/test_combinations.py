"""What does not combine is refused in one line that gives the reason, before anything starts."""

import json
from types import SimpleNamespace

import pytest
from pytorch_lightning.strategies import FSDPStrategy

from itm_lightning import Matcher
from itm_lightning.cli import main
from itm_lightning.encoders import PretrainedText, RecurrentText, RegionFeatures
from itm_lightning.objectives import InfoNCE
from itm_lightning.sharding.rules import nothing_to_shard, other_engines
from itm_lightning.similarity import Cosine
from tests.encoders.conftest import folders
from tests.sharding.fits import fsdp2

__all__ = ["folders"]

FSDP2 = "--trainer.strategy=ModelParallelStrategy"
BY_CLASS = "--trainer.strategy.class_path=ModelParallelStrategy"
SIZE = "--trainer.strategy.init_args.tensor_parallel_size=2"
RESNET = "--model.image_encoder.init_args.name=resnet18"
SYNC = "--trainer.sync_batchnorm=true"

REFUSED = {
    "layers split": ([BY_CLASS, SIZE, "--trainer.devices=2"], "tensor_parallel_size: 1"),
    "16-mixed": ([BY_CLASS, "--trainer.precision=16-mixed"], "bf16-mixed"),
    "doubles": ([FSDP2, "--trainer.precision=64-true"], "bf16-mixed"),
    "compiled": ([FSDP2, "--model.compile=true"], "model.compile: false"),
    "sharded, synchronised": ([FSDP2, SYNC, RESNET], "trainer.sync_batchnorm: false"),
    "synchronised on a CPU": (["--trainer.strategy=ddp", SYNC, RESNET], "GPUs alone"),
    "half alone": (["--trainer.precision=16-true"], "16-mixed"),
    "half SAF": (["--model.similarity=SAF", "--trainer.precision=bf16-true"], "bf16-mixed"),
    "spawned": (["--trainer.strategy=ddp_spawn", "--trainer.devices=2"], "strategy: ddp"),
    "the same pairs": (
        ["--trainer.use_distributed_sampler=false", "--trainer.devices=2"],
        "leave trainer.use_distributed_sampler out",
    ),
    "FSDP1 on a CPU": (["--trainer.strategy=fsdp"], "requires a GPU"),
    "no strategy": (["--trainer.strategy=dp"], "invalid strategy name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_the_reason(refuse, tiny_config, name):
    flags, mend = REFUSED[name]
    assert mend in refuse("fit", "--config", tiny_config, *flags)


def test_features_extracted_by_other_weights_are_refused(refuse, tiny_config, tmp_path):
    tiny_config["model"]["image_encoder"]["init_args"]["trainable"] = False
    (tmp_path / "photos.json").write_text(json.dumps(tiny_config))
    main(["extract", "--config", "photos.json", "--output", "features"])
    tiny_config["data"]["source"] = {"class_path": "Precomputed", "init_args": {"root": "features"}}
    line = refuse("fit", "--config", tiny_config, "--trainer.precision=bf16-true")
    assert "set trainer.precision: 32-true, or bf16-mixed" in line


def matcher_of(text):
    return Matcher(RegionFeatures(8), text, Cosine(), InfoNCE(), dim=4)


def test_something_must_be_sharded(folders):
    trainer = SimpleNamespace(strategy=fsdp2())
    reason = nothing_to_shard(trainer, matcher_of(RecurrentText(hidden=4, word_dim=4)))
    assert "set trainer.strategy: ddp" in reason
    assert nothing_to_shard(trainer, matcher_of(PretrainedText(folders("bert")))) is None


def test_fsdp1_is_refused_where_it_would_start():
    trainer = SimpleNamespace(strategy=FSDPStrategy())
    assert "ModelParallelStrategy" in other_engines(trainer, None)
