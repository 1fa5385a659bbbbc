"""The matrix products that some code makes, alone: what it could at best be reduced to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _PRODUCTS:
            self._noted.append((_PRODUCTS[func], [_like(arg) for arg in args]))
        return func(*args, **(kwargs or {}))

    def replay(self) -> None:
        """Makes the noted products, of made-up numbers in the noted layouts."""
        for product, factors in self._noted:
            product(*factors)


def products_alone(run: Callable[[], object]) -> Callable[[], None]:
    """What makes the matrix products of ``run``, and nothing else."""
    with MatrixProducts() as products:
        run()
    return products.replay


def _like(value: Any) -> Any:
    """Memory laid out as the factor's: a transposed one is multiplied at another speed."""
    return torch.rand_like(value) if isinstance(value, Tensor) else value
