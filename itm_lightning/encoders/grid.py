"""Cuts a classification network of torchvision behind its last grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HEADS = {"avgpool", "classifier", "fc", "head", "heads"}
"""What torchvision calls the sub-modules that follow the grid."""

TAIL = 8
"""How many operations before the head are searched; pooling and flattening are at most three."""


def cut_at_grid(network: nn.Module, image_size: int) -> nn.Module:
    """The network up to its last grid; what lies behind is dropped.

    Args:
        network: a classification network of torchvision.
        image_size: side of a photo on which the grid has more than one place.

    Returns:
        A network from pixels ``(B, 3, H, W)`` to ``{"grid": …}``; see :func:`as_tokens`.
    """
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    in_training, in_evaluation = get_graph_node_names(network, suppress_diff_warning=True)
    names = [
        name
        for name in in_evaluation
        if name in set(in_training) and name.split(".")[0] not in HEADS
    ]
    probe = create_feature_extractor(network, names[-TAIL:], suppress_diff_warning=True).eval()
    with torch.no_grad():
        outputs = probe(torch.zeros(1, 3, image_size, image_size))
    last = [name for name, output in outputs.items() if _has_places(output)][-1]
    return create_feature_extractor(network, {last: "grid"}, suppress_diff_warning=True)


def as_tokens(grid: Tensor) -> Tensor:
    """``(B, C, H, W)`` to ``(B, H·W, C)``; of ``(B, 1 + L, C)``, the class token is dropped."""
    return grid.flatten(2).transpose(1, 2) if grid.ndim == 4 else grid[:, 1:]


def _has_places(output: Any) -> bool:
    """Whether it is a grid ``(B, C, H, W)`` or patches ``(B, L, C)``, and not pooled already."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return False
    places = output.shape[2:] if output.ndim == 4 else output.shape[1:2]
    return places.numel() > 1
