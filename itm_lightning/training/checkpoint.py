"""What a checkpoint holds of a Matcher, so that a fresh process can build it: plain values only.

And sums of its tensors, so that a file that was damaged on its way is told from a good one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from itm_lightning.encoders.pretrained import load_tensors
from itm_lightning.errors import InputError, refused
from itm_lightning.part import (
    extra_states_of,
    from_config,
    load_extra_states,
    skip_pretrained,
    to_config,
    trusting,
)

#: Of the layout below; checkpoints of another layout are refused.
VERSION = 2
_PARTS = "image_encoder", "text_encoder", "similarity", "objective"
_SUMMED = "state_dict", "optimizer_states"
_ENTRIES = {"version": int, "config": dict, "extra_state": dict}
_WORDS = 512  # of eight bytes, that one sum is made of

_MEND = "lower the learning rate, or set trainer.gradient_clip_val"

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def add_matcher(
    checkpoint: dict[str, Any], module: nn.Module, arguments: Mapping[str, Any], step: int
) -> None:
    """Adds to a checkpoint what a fresh process needs to build the Matcher, and checksums.

    The entry ``matcher`` has ``version``; ``config``, from which
    :func:`~itm_lightning.part.from_config` makes the arguments; and ``extra_state`` of every part,
    by module path.

    Args:
        checkpoint: about to be written.
        module: the Matcher.
        arguments: of its constructor, besides its parts.
        step: of the optimiser.

    Raises:
        InputError: a weight is not finite.
    """
    check_weights(module, step)
    arguments = {name: getattr(module, name) for name in _PARTS} | dict(arguments)
    config = {name: to_config(value) for name, value in arguments.items()}
    extra_state = extra_states_of(module)
    checkpoint["matcher"] = {"version": VERSION, "config": config, "extra_state": extra_state}
    checkpoint["checksums"] = _checksums(checkpoint)


def read_checkpoint(path: Path, name: str) -> dict[str, Any]:
    """What a checkpoint holds; its tensors stay on disk until they are used.

    Args:
        path: of the file.
        name: of the file or the flag that names it, for messages.

    Raises:
        InputError: it is missing, or as of :func:`checked_state`.
    """
    if not path.is_file():
        raise InputError(f"{name}: there is no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the broken file makes its readers raise
        raise InputError(f"{name}: not a checkpoint that can be read") from error
    checked_state(checkpoint, name)
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise InputError(f"{name} has no tensors as state_dict: it was changed")
    return checkpoint


def load_matcher(
    build: Callable[..., ModuleT],
    path: Path,
    device: Any,
    trust: Sequence[str],
    replaced: Mapping[str, Any],
) -> ModuleT:
    """The Matcher of a checkpoint, ready for inference.

    Args:
        build: the Matcher's class.
        path: of the checkpoint.
        device: it goes to.
        trust: modules whose parts it may build, too.
        replaced: arguments in place of the checkpoint's.

    Raises:
        InputError: the checkpoint cannot be read, or what it describes cannot be built.
    """
    checkpoint = read_checkpoint(path, str(path))
    state = checkpoint["matcher"]
    with (
        trusting(trust),
        skip_pretrained(state["extra_state"]),
        refused(f"{path} does not describe a Matcher that can be built"),
    ):
        module = build(**{**from_config(state["config"], path), **replaced})
    fill(module, checkpoint, str(path))
    return module.to(device).eval()


def fill(module: nn.Module, checkpoint: Mapping[str, Any], name: str) -> None:
    """Gives a Matcher the extra states and tensors of a checkpoint.

    Raises:
        InputError: they do not fit it.
    """
    load_extra_states(module, checkpoint["matcher"]["extra_state"])
    with refused(f"{name} does not fit the network"):
        load_tensors(module, checkpoint["state_dict"], name)


def checked_state(checkpoint: dict[str, Any], name: object) -> dict[str, Any]:
    """The entry ``checkpoint["matcher"]``.

    Args:
        checkpoint: what a checkpoint file holds.
        name: of the file or the flag that names it, for messages.

    Raises:
        InputError: it was not written by itm-lightning, or by a version with another layout; or
            it was damaged, or lacks an entry.
    """
    if not isinstance(checkpoint, dict) or "matcher" not in checkpoint:
        raise InputError(f"{name} was not written by itm-lightning: it holds no Matcher")
    state = checkpoint["matcher"]
    version = state.get("version", 1) if isinstance(state, dict) else None
    if version != VERSION:
        raise InputError(
            f"{name} was written by another version of itm-lightning (layout {version}, not "
            f"{VERSION}): train it again, or read it with the version that wrote it"
        )
    for key, kind in _ENTRIES.items():
        if not isinstance(state.get(key), kind):
            raise InputError(f"{name} has no {key}: it was changed after it was written")
    _check_sums(checkpoint, name)
    return state


def _check_sums(checkpoint: Mapping[str, Any], name: object) -> None:
    """Raises InputError where the sums are not those written; older checkpoints have none."""
    with refused(f"{name} was damaged: its tensors cannot be read"):
        found, written = _checksums(checkpoint), checkpoint.get("checksums", {})
        for key, checksum in written.items():
            if key in found and found[key] != checksum:  # FSDP2 reads the weights by itself
                raise InputError(
                    f"{name} was damaged after it was written: its {key} is not what its checksum "
                    "says; copy it again, or take another checkpoint of the run"
                )


def _checksums(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Of the weights and, where a fit can be resumed, of the optimiser's state."""
    return {key: _checksum(checkpoint[key]) for key in _SUMMED if key in checkpoint}


def _checksum(value: Any) -> str:
    digest = hashlib.sha256()
    for part in _summed(value):
        digest.update(part)
    return digest.hexdigest()


def _summed(value: Any) -> Iterator[bytes]:
    """Nested values in bytes; of a tensor the sums of its bytes, as a hash of all takes longer."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from _summed(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _summed(item)
    elif isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        data = value.detach().contiguous().reshape(-1).view(torch.uint8)
        data = data.clone() if data.storage_offset() % 8 else data
        rows = len(data) // (8 * _WORDS)
        whole, rest = data.split([rows * 8 * _WORDS, len(data) - rows * 8 * _WORDS])
        yield whole.view(torch.int64).view(rows, _WORDS).sum(dim=1).cpu().numpy().tobytes()
        yield rest.cpu().numpy().tobytes()
    else:
        yield repr(value).encode()


def load_all_but_the_objective(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Loads a Matcher's tensors, but for those of its objective, which may be another one.

    Raises:
        InputError: some are missing or do not fit.
    """
    given = {key: value for key, value in tensors.items() if not key.startswith("objective.")}
    own = {k: v for k, v in module.state_dict().items() if k.startswith("objective.")}
    load_tensors(module, given | own, name)


# -- training that has diverged ---------------------------------------------------------------


def check_loss(trainer: Any) -> None:
    """Ends a fit whose loss is not finite, before a step of the optimiser that would spread it.

    On a GPU it is read as often as it is logged, and at the end of an epoch: reading it waits for
    all that has been computed. A loss that is not finite once makes all that follow so, too.

    Args:
        trainer: of the fit, which has logged ``train/loss``.

    Raises:
        InputError: it is infinite or NaN.
    """
    loss, step = trainer.callback_metrics.get("train/loss"), trainer.global_step
    if loss is None:  # of a fit in closed form
        return
    is_logged = step % max(trainer.log_every_n_steps, 1) == 0
    if (loss.device.type == "cpu" or is_logged or trainer.is_last_batch) and not loss.isfinite():
        raise InputError(
            f"the loss is {float(loss)} at step {step}: training has diverged; {_MEND}"
        )


def check_weights(module: nn.Module, step: int) -> None:
    """Refuses to write weights into a checkpoint that are not finite; a good one stays in place.

    Args:
        module: that is trained.
        step: of the optimiser.

    Raises:
        InputError: a weight is infinite or NaN; the message names it.
    """
    for name, weights in module.named_parameters():
        # a sum is one pass and needs no memory; it may overflow where all weights are finite
        if not weights.detach().sum().isfinite() and not weights.isfinite().all():
            raise InputError(
                f"{name} is no longer finite at step {step}: training has diverged, and earlier "
                f"checkpoints are left as they are; {_MEND}"
            )
