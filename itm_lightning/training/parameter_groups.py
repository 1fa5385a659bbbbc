"""Which parameters are trained, and at which learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from itm_lightning.encoders.base import Encoder
from itm_lightning.encoders.pretrained import freeze_unreached
from itm_lightning.errors import InputError, check_numbers
from itm_lightning.sharding import separate
from itm_lightning.similarity.base import Similarity
from itm_lightning.types import Features


def make_optimizer(
    make: Callable[[list[dict[str, Any]]], Optimizer],
    module: nn.Module,
    factors: Mapping[str, float],
) -> Optimizer:
    """An optimiser with a group for each factor on its learning rate.

    Args:
        make: makes the optimiser of groups of parameters.
        module: the module that is trained.
        factors: see :func:`groups_by_factor`.

    Raises:
        InputError: the optimiser refuses its arguments, or one is not a finite number.
    """
    groups = groups_by_factor(module, factors)
    try:
        optimizer = make([{"params": group} for group in groups.values()])
    except ValueError as error:  # torch's own checks of its arguments
        raise InputError(f"model.optimizer: {error}") from error
    check_numbers(type(optimizer), optimizer.defaults)
    for factor, group in zip(groups, optimizer.param_groups, strict=True):
        group["lr"] *= factor
    separate(optimizer)
    return optimizer


def groups_by_factor(
    module: nn.Module, factors: Mapping[str, float]
) -> dict[float, list[nn.Parameter]]:
    """The trainable parameters by the factor of the longest prefix of their name, or 1.

    Args:
        module: the module that is trained.
        factors: prefix of a parameter's name → factor, as ``{"image_encoder.network": 0.1}``.

    Raises:
        InputError: no parameter starts with a prefix; the message names the parts there are.
    """
    named = list(module.named_parameters())
    for prefix in factors:
        if not any(name.startswith(prefix) for name, _ in named):
            parts = ", ".join(sorted({name.partition(".")[0] for name, _ in named}))
            raise InputError(
                f"model.lr_factors names {prefix!r}, but no parameter starts so; the parts are "
                + parts
            )
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            matching = [prefix for prefix in factors if name.startswith(prefix)]
            factor = factors[max(matching, key=len)] if matching else 1.0
            groups.setdefault(factor, []).append(parameter)
    return groups


def freeze_unused(encoders: Iterable[Encoder], similarity: Similarity) -> None:
    """Freezes what makes the encoders' pooled vectors where the head reads tokens alone.

    Args:
        encoders: the encoders of both sides.
        similarity: the head; what it selects of the features shows what it reads.
    """
    one = Features.from_tokens(torch.zeros(1, 1, 1))
    if similarity.select(one).pooled is None:
        for encoder in encoders:
            pooling = encoder.pooling
            weight = next(pooling.parameters(), None)
            if weight is None:
                continue
            pooling.eval()  # a look, from which batch normalisation is not to learn
            with torch.enable_grad():
                token = weight.new_zeros(1, 1, encoder.dim)
                tokens = pooling.relate(token, torch.ones_like(token[..., 0], dtype=torch.bool))
            pooling.train(encoder.training)
            freeze_unreached(pooling, tokens)
