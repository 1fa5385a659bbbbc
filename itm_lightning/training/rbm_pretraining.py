"""RBMPretraining: the layers of projections start from restricted Boltzmann machines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.distributed import all_processes
from itm_lightning.encoders.projection import MLPProjection
from itm_lightning.errors import InputError
from itm_lightning.objectives.autoencoder import Autoencoder, Units
from itm_lightning.objectives.functional import pooled_vectors
from itm_lightning.training.rbm import RBM, train_rbm
from itm_lightning.utils.progress_bars import progress_bar

_SIDES = ("image", "text")
_SMALLEST_DEVIATION = 1e-8


class RBMPretraining(Callback):
    """Before a fit, trains the projections' layers one after another, without labels.

    The encoders' vectors of the train split are encoded once. Each layer's machine learns from what
    the layer below makes of them (Hinton and Salakhutdinov, Science 313, 2006). The last layer of
    both sides is one machine, over pairs, so that its codes mean the same on either side (Ngiam et
    al., ICML 2011); each side has half of its hidden biases. Weights and hidden biases become the
    layer's, and, transposed and with the visible biases, those of the mirrored layers in the
    decoders of an autoencoder. Real numbers are standardised first, which the outer layers'
    weights then do and undo. Over word counts, a machine's biases grow with the number of words;
    the network's are those of the mean number, as it knows no other.

    Where several processes train, each pre-trains alike on everybody's vectors, as none may wait
    for long, and all go on with the first one's weights. A fit that goes on from a checkpoint has
    its weights from there. For ``trainer.callbacks``, as
    ``itm_lightning.training.RBMPretraining``; both projections must be
    ``MLPProjection(activation="sigmoid")`` of one ``dim``.

    Args:
        epochs: of each layer.

    Raises:
        InputError: ``epochs`` is below 1.
    """

    def __init__(self, epochs: int = 50) -> None:
        if epochs < 1:
            raise InputError(f"RBMPretraining: epochs is {epochs}; it must be at least 1")
        self.epochs = epochs

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            _stacks(pl_module)

    @override
    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > 0:
            return
        stacks, processes = _stacks(pl_module), all_processes()
        rows = _encoded_pairs(pl_module)
        generator = torch.Generator(pl_module.device).manual_seed(torch.initial_seed())
        bar = progress_bar(
            total=self.epochs * (sum(len(stack.layers) for stack in stacks) - 1),
            desc="Boltzmann machines",
            disable=processes.rank != 0,
            leave=False,
        )
        with bar:
            pretrain(rows, stacks, self.epochs, generator, bar.update)
        for stack in stacks:
            for layer in [*stack.layers, *itertools.chain(*stack.decoders)]:
                for parameter in layer.parameters():
                    own = parameter if processes.rank == 0 else torch.zeros_like(parameter)
                    parameter.copy_(processes.sum(own))


@dataclass
class Stack:
    """The layers of one side.

    Attributes:
        layers: linear, with sigmoids between and after; the last one's are the codes.
        decoders: each has the layers from the codes back to the vectors.
        units: what the numbers of the vectors are.
    """

    layers: list[nn.Linear]
    decoders: list[list[nn.Linear]]
    units: Units


def pretrain(
    rows: Sequence[Tensor],
    stacks: Sequence[Stack],
    epochs: int,
    generator: torch.Generator | None = None,
    on_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Sets the weights of two sides' layers, and of the decoders that mirror them.

    Args:
        rows: of each side ``(N, V)``, row by row pairs.
        stacks: of each side.
        epochs: of each machine.
        generator: of the random numbers, on the device of the rows.
        on_epoch: called after each.
    """
    tops = []
    for vectors, stack in zip(rows, stacks, strict=True):
        inputs, units = vectors, stack.units
        if units == "gaussian":
            mean, deviation = _statistics(vectors)
            inputs = (vectors - mean) / deviation
        for number, layer in enumerate(stack.layers[:-1]):
            machine = train_rbm(inputs, layer.out_features, units, epochs, generator, on_epoch)
            inputs, units = machine.hidden(inputs), "binary"
            _copy(machine, stack, number)
        if stack.units == "gaussian":
            stack.layers[0].weight.div_(deviation)
            stack.layers[0].bias.sub_(stack.layers[0].weight @ mean)
            for decoder in stack.decoders:
                decoder[-1].weight.mul_(deviation[:, None])
                decoder[-1].bias.mul_(deviation).add_(mean)
        elif stack.units == "softmax":
            stack.layers[0].bias.mul_(vectors.sum(dim=1).mean())
        tops.append(inputs)
    dim = stacks[0].layers[-1].out_features
    joint = train_rbm(torch.cat(tops, dim=1), dim, "binary", epochs, generator, on_epoch)
    widths = [top.shape[1] for top in tops]
    parts = zip(joint.weight.split(widths), joint.visible_bias.split(widths), strict=True)
    for stack, (weight, bias) in zip(stacks, parts, strict=True):
        _copy(RBM(weight, bias, joint.hidden_bias / 2, "binary"), stack, len(stack.layers) - 1)


def _statistics(vectors: Tensor) -> tuple[Tensor, Tensor]:
    deviation = vectors.std(dim=0, correction=0)
    return vectors.mean(dim=0), deviation.where(deviation > _SMALLEST_DEVIATION, 1.0)


def _copy(machine: RBM, stack: Stack, number: int) -> None:
    """Copies a machine into a layer, and into the mirrored one of each decoder."""
    stack.layers[number].weight.copy_(machine.weight.mT)
    stack.layers[number].bias.copy_(machine.hidden_bias)
    for decoder in stack.decoders:
        decoder[-1 - number].weight.copy_(machine.weight)
        decoder[-1 - number].bias.copy_(machine.visible_bias)


def _stacks(module: Any) -> list[Stack]:
    """The linear layers of each side's projection, and of the decoders that mirror it.

    Raises:
        InputError: a projection is of another kind, or a decoder does not mirror it.
    """
    objective, stacks = module.objective, []
    for side in _SIDES:
        projection = getattr(module, f"{side}_projection")
        if (
            not isinstance(projection, MLPProjection)
            or projection.activation != "sigmoid"
            or projection.batch_norm
            or projection.skips
        ):
            raise InputError(
                f"RBMPretraining trains layers of sigmoids: set model.{side}_projection to "
                "MLPProjection with activation: sigmoid, and without batch_norm and skip"
            )
        stack = Stack(_linear(projection), [], "gaussian")
        if isinstance(objective, Autoencoder):
            named = objective.decoders.items()
            decoders = [_linear(each) for name, each in named if name.endswith(f"_to_{side}")]
            stack = Stack(stack.layers, decoders, objective.units[side])
        widths = [layer.weight.shape for layer in stack.layers]
        for decoder in stack.decoders:
            if [layer.weight.mT.shape for layer in reversed(decoder)] != widths:
                raise InputError(
                    "RBMPretraining: decoders mirror the projections, but model.objective has "
                    f"hidden {objective.hidden} and layers {objective.layers}, and "
                    f"model.{side}_projection {projection.hidden} and {projection.layers}: give "
                    "both the same"
                )
        stacks.append(stack)
    dims = [stack.layers[-1].out_features for stack in stacks]
    if dims[0] != dims[1]:
        raise InputError(
            f"RBMPretraining: codes of images have {dims[0]} numbers and those of texts {dims[1]}: "
            "give both projections the same dim"
        )
    return stacks


def _linear(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def _encoded_pairs(module: Any) -> list[Tensor]:
    """The encoders' pooled vectors ``(N, V)`` of all pairs of the train split; a collective.

    Each pair once, in the order of text ids: processes have shares, filled up with repeated pairs.
    """
    processes = all_processes()
    encoders = module.image_encoder, module.text_encoder
    modes = {part: part.training for encoder in encoders for part in encoder.modules()}
    for encoder in encoders:
        encoder.eval()
    own: tuple[list[Tensor], ...] = [], [], []
    for each in progress_bar(
        module.data.evaluation_loader("train"),
        desc="encode train",
        disable=processes.rank != 0,
        leave=False,
    ):
        batch = each.to(module.device)
        if batch.texts:
            own[1].append(pooled_vectors(module.text_encoder(batch.texts), module.objective))
            images = pooled_vectors(module.image_encoder(batch.images), module.objective)
            of_text = (batch.text_image_ids[:, None] == batch.image_ids).int().argmax(dim=1)
            own[0].append(images[of_text])
            own[2].append(batch.text_ids)
    for part, mode in modes.items():
        part.training = mode
    gathered = [processes.gather(torch.cat(side) if side else None) for side in own]
    *rows, ids = (side for side in gathered if side is not None)  # a train split is never empty
    order = ids.argsort(stable=True)
    is_first = torch.ones_like(ids, dtype=torch.bool)
    is_first[1:] = ids[order].diff() != 0
    return [side[order[is_first]] for side in rows]
