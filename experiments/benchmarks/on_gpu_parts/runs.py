"""Whether whole runs do on a device what they do elsewhere: scores, FSDP2, and runs resumed."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from on_gpu_parts.steps import Measurements, write_bert
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor

from itm_lightning import ITMDataModule, Matcher, registry
from itm_lightning.data import Scenes
from itm_lightning.encoders import PretrainedText, RecurrentText, TorchvisionCNN
from itm_lightning.resume import Cadence, LastCheckpoint
from itm_lightning.sharding import is_sharded

_NETWORK = "squeezenet1_1"


def _trainer(device: torch.device, folder: str, **settings: Any) -> pl.Trainer:
    """One that says nothing and leaves nothing behind."""
    callbacks = settings.get("callbacks", [])
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


def _scenes(tiny: bool) -> ITMDataModule:
    source = Scenes(train=8, val=4, test=8) if tiny else Scenes(train=320, val=100, test=500)
    return ITMDataModule(source, batch_size=4 if tiny else 64)


def _matcher(head: str, **settings: Any) -> Matcher:
    pl.seed_everything(0, verbose=False)
    image = TorchvisionCNN(_NETWORK, image_size=64, augment=True)
    text = RecurrentText(hidden=64, word_dim=32)
    return Matcher(image, text, registry.get("similarity", head)(), dim=64, **settings)


# -- scores ---------------------------------------------------------------------------------------


def scores_by_device(device: torch.device, tiny: bool) -> Measurements:
    """The scores of one checkpoint, by device and precision, beside those of the CPU in fp32."""
    cpu = torch.device("cpu")
    tests = [(cpu, "32-true"), *((device, p) for p in ("32-true", "bf16-mixed", "bf16-true"))]
    with TemporaryDirectory() as folder:
        for head in ("CrossAttention",) if tiny else ("Cosine", "CrossAttention"):
            checkpoint = Path(folder) / f"{head}.ckpt"
            yield f"{head}, trained", partial(_train, device, tiny, head, checkpoint)
            expected: dict[str, float] = {}
            for where, precision in tests:
                test = partial(_test, where, tiny, precision, checkpoint, expected)
                yield f"{head}, {where.type}, {precision}", test


def _train(device: torch.device, tiny: bool, head: str, checkpoint: Path) -> dict[str, float]:
    matcher, data = _matcher(head), _scenes(tiny)
    trainer = _trainer(device, str(checkpoint.parent), max_epochs=1 if tiny else 6)
    trainer.fit(matcher, data)
    trainer.save_checkpoint(checkpoint)
    return {"val/rsum": matcher.results["val/rsum"]}


def _test(
    device: torch.device, tiny: bool, precision: str, checkpoint: Path, expected: dict[str, float]
) -> dict[str, Any]:
    matcher, data = Matcher.load_from_checkpoint(checkpoint), _scenes(tiny)
    trainer = _trainer(device, str(checkpoint.parent), precision=precision)
    with _no_tf32():
        trainer.test(matcher, data, verbose=False)
    if not expected and device.type != "cpu":
        raise RuntimeError("the CPU's scores are missing: there is nothing to compare with")
    if not expected:
        expected.update(matcher.results)
    off = {key: abs(value - expected[key]) for key, value in matcher.results.items()}
    most = max(off, key=lambda key: off[key])
    recalls = max(value for key, value in off.items() if "R@" in key)
    return {
        "rsum": matcher.results["test/rsum"],
        "R@K off the CPU's by": recalls,
        "most off": f"{most} by {off[most]:.3g}",
    }


@contextmanager
def _no_tf32() -> Iterator[None]:
    """Without TF32 in convolutions and recurrent networks, where torch has it by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


# -- in processes of their own --------------------------------------------------------------------


def _in_process(device: torch.device, run: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns in a process of its own, or raises there.

    Raises:
        BrokenProcessPool: the process was killed.
    """
    # forked from a server that has used neither CUDA nor threads, and has imported what takes long
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytorch_lightning", "transformers"])
    with ProcessPoolExecutor(1, context, initializer=_silence) as pool:
        return pool.submit(run, device, *arguments).result()


def _silence() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def sharded(device: torch.device, tiny: bool) -> Measurements:
    """FSDP2 on one device trains, tests and resumes, beside ddp, which draws the same batches."""
    yield "FSDP2, one device", partial(_in_process, device, _sharded, tiny)


def _sharded(device: torch.device, tiny: bool) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        write_bert(folder, True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        fit, half = partial(_fit_bert, device, tiny, folder), Path(folder) / "half.ckpt"
        ddp = fit(DDPStrategy(), 2)
        first = fit(_fsdp2(), 1)
        first.save_checkpoint(half)
        first.test(datamodule=_scenes(tiny), ckpt_path=half, verbose=False)
        resumed = fit(_fsdp2(), 2, half)
        losses = [trainer.callback_metrics["train/loss"].item() for trainer in (ddp, resumed)]
        matcher = resumed.lightning_module
        return {
            "sharded": is_sharded(matcher),
            "steps": resumed.global_step,
            "test/rsum after the first epoch": first.lightning_module.results["test/rsum"],
            "last loss": losses[1],
            "off ddp's by": abs(losses[1] - losses[0]),
        }


def _fsdp2() -> ModelParallelStrategy:
    return ModelParallelStrategy(1, 1, save_distributed_checkpoint=False)


def _fit_bert(
    device: torch.device,
    tiny: bool,
    folder: str,
    strategy: Strategy,
    epochs: int,
    checkpoint: Path | None = None,
) -> pl.Trainer:
    pl.seed_everything(0, verbose=False)
    matcher = Matcher(TorchvisionCNN(_NETWORK, image_size=64), PretrainedText(folder), dim=64)
    trainer = _trainer(device, folder, strategy=strategy, max_epochs=epochs)
    trainer.fit(matcher, _scenes(tiny), ckpt_path=checkpoint)
    return trainer


def killed_and_resumed(device: torch.device, tiny: bool) -> Measurements:
    """A fit with deterministic algorithms that is killed and resumed, beside one that never was."""
    yield "a fit killed and resumed", partial(_killed_and_resumed, device, tiny)


def _killed_and_resumed(device: torch.device, tiny: bool) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        unbroken, killed = (Path(folder) / name for name in ("unbroken.ckpt", "killed.ckpt"))
        _in_process(device, _fit, tiny, unbroken)
        try:
            _in_process(device, _fit, tiny, killed, 7 if tiny else 30)
        except BrokenProcessPool:
            resumed_from = _read(killed)["global_step"]
        else:
            raise RuntimeError("the fit was to be killed, and ended")
        _in_process(device, _fit, tiny, killed)
        ends = _read(unbroken), _read(killed)
    both = [[*_tensors(end["state_dict"]), *_tensors(end["optimizer_states"])] for end in ends]
    equal = [torch.equal(*pair) for pair in zip(*both, strict=True)]
    steps = ends[0]["global_step"]
    return {
        "resumed from step": f"{resumed_from} of {steps}",
        "tensors": len(equal),
        "that differ": equal.count(False),
    }


def _fit(device: torch.device, tiny: bool, last: Path, dies_after: int = 0) -> None:
    """Goes on from its checkpoint, if there is one."""
    matcher = _matcher("Cosine", dropout=0.2)
    callbacks = [Dies(dies_after), LastCheckpoint(last, Cadence(steps=1))]
    epochs = 2  # it dies in the second
    settings = {"deterministic": True, "callbacks": callbacks, "max_epochs": epochs}
    trainer = _trainer(device, str(last.parent), **settings)
    trainer.fit(matcher, _scenes(tiny), ckpt_path=last if last.is_file() else None)


class Dies(pl.Callback):
    """Kills its own process after some batches, of which 0 is never."""

    def __init__(self, batches: int) -> None:
        self._left = batches

    def on_train_batch_end(self, *_: Any) -> None:
        """Counts down."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _read(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All those in nested containers, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
