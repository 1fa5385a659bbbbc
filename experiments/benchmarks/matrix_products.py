"""The matrix products that some code makes, alone: what it could at best be reduced to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from itm_lightning.types import Features

STRIP = 2048  # rows of the right side at a time: the product stays in memory
_aten = torch.ops.aten
_PRODUCTS = {
    overload: packet.default
    for packet in (_aten.mm, _aten.bmm, _aten.addmm, _aten.baddbmm)
    for overload in (packet.default, packet.out)
}


class MatrixProducts(TorchDispatchMode):
    """Notes, while it is entered, every matrix product; :meth:`replay` makes them again, alone."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[tuple[Callable[..., Tensor], list[Any]]] = []
        # one factor of each layout: a head that computes tile by tile to save memory may make
        # thousands of products, whose factors together would fill it
        self._factors: dict[Hashable, Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _PRODUCTS:
            self._noted.append((_PRODUCTS[func], [self._like(arg) for arg in args]))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        """Makes the noted products, of made-up numbers in the noted layouts."""
        for product, factors in self._noted:
            product(*factors)

    def _like(self, value: Any) -> Any:
        """Memory laid out as the factor's: a transposed one is multiplied at another speed."""
        if not isinstance(value, Tensor):
            return value
        layout = value.shape, value.stride(), value.dtype, value.device
        if layout not in self._factors:
            self._factors[layout] = torch.rand_like(value)
        return self._factors[layout]


def products_alone(run: Callable[[], object]) -> Callable[[], None]:
    """What makes the matrix products of ``run``, and nothing else."""
    with MatrixProducts() as products:
        run()
    return products.replay


@torch.no_grad()
def regions_by_words(images: Features, texts: Features) -> None:
    """All regions times all real words: the one product that SCAN cannot avoid."""
    regions = images.tokens.flatten(0, 1)
    for words in texts.tokens[texts.mask].split(STRIP):
        regions @ words.mT


@torch.no_grad()
def images_by_texts(images: Tensor, texts: Tensor) -> None:
    """All images' vectors times all texts'."""
    for part in texts.split(STRIP):
        images @ part.mT
