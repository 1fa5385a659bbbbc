"""A release that no longer has a private name is refused in one line that says what to install."""

import re
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, launchers
from torch import fx, nn

from itm_lightning.errors import InputError
from itm_lightning.utils import internals


def without(*names, **kept):
    """An object of a release that lacks the private names among these, and has the others."""
    return SimpleNamespace(**dict.fromkeys(names), **kept)


FIT_LOOP = without(epoch_loop=without(), _data_fetcher=None)
USES = {
    "_should_accumulate": lambda: internals.between_steps(without(fit_loop=FIT_LOOP)),
    "_rebuild_buckets": lambda: internals.rebuild_buckets(without("reducer")),
    "_accelerator_connector": lambda: internals.samples_are_distributed(without()),
    "_layer_sync": lambda: internals.batch_norm_is_synchronised(without()),
    "_data_parallel_size": lambda: internals.shard_sizes(without()),
    "_save_distributed_checkpoint": lambda: internals.shard_over_all(
        without("_data_parallel_size", "_tensor_parallel_size"), 1
    ),
    "_wrapped_call": lambda: internals.bind_wrapped_call(without()),
}


@pytest.mark.parametrize("name", USES)
def test_a_missing_name_is_refused_with_the_release_to_install(name):
    with pytest.raises(InputError, match=name) as refused:
        USES[name]()
    assert re.search(r"pip install '(pytorch-lightning|torch)<=[\d.]+'", str(refused.value))


def test_a_missing_launcher_is_refused(monkeypatch):
    monkeypatch.delattr(launchers, "_MultiProcessingLauncher")
    with pytest.raises(
        InputError, match=r"launchers\._MultiProcessingLauncher of pytorch-lightning"
    ):
        internals.ends_its_processes(DDPStrategy())


def test_missing_shared_memory_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "UntypedStorage", type("UntypedStorage", (), {}))
    with pytest.raises(InputError, match=r"UntypedStorage\._new_shared of torch"):
        internals.shared_storage(8)


def test_a_missing_question_about_the_processor_is_refused(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    with pytest.raises(InputError, match=r"torch\.cpu\._is_avx512_bf16_supported of torch"):
        internals.processor_multiplies_bfloat16()


def test_the_installed_releases_have_every_name():
    trainer = Trainer(accelerator="cpu", logger=False, sync_batchnorm=True, barebones=True)
    assert internals.samples_are_distributed(trainer)
    assert not internals.batch_norm_is_synchronised(DDPStrategy())
    assert internals.shared_storage(8).is_shared()
    assert internals.processor_multiplies_bfloat16() in (True, False)
    strategy = ModelParallelStrategy()
    internals.shard_over_all(strategy, 3)
    assert internals.shard_sizes(strategy) == (3, 1)
    internals.bind_wrapped_call(fx.symbolic_trace(nn.Linear(1, 1)))
