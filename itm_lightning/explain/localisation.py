"""Whether the map of a word lies on the object that the word names.

A map has one value for each of an image's ``R`` places: cells of a grid, or regions. Places and
objects are boxes ``(left, top, right, bottom)`` as shares of the image's width and height. A word
may speak of several objects (``K``, padded with empty boxes, all zeros), which do not overlap.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cells(rows: int, columns: int) -> Tensor:
    """Boxes ``(rows · columns, 4)`` float of a grid over the whole image, row by row."""
    top, left = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    edges = torch.stack([left / columns, top / rows, (left + 1) / columns, (top + 1) / rows], -1)
    return edges.flatten(0, 1)


def centres_inside(places: Tensor, boxes: Tensor) -> Tensor:
    """Whether each place's centre lies in an object.

    A box has its left and top edges, and not its right and bottom ones.

    Args:
        places: ``(R, 4)``.
        boxes: of the objects of ``N`` words, ``(N, K, 4)``.

    Returns:
        ``(N, R)`` bool.
    """
    centres = (places[:, :2] + places[:, 2:]) / 2
    after = centres[:, None] >= boxes[:, None, :, :2]
    before = centres[:, None] < boxes[:, None, :, 2:]
    return (after & before).all(dim=-1).any(dim=-1)


def covered(places: Tensor, boxes: Tensor) -> Tensor:
    """The share of each place's area that lies in objects: ``(N, R)``; arguments as above."""
    low = torch.maximum(places[:, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(places[:, None, 2:], boxes[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=-1).sum(dim=-1)
    return common / areas(places).clamp(min=torch.finfo(places.dtype).tiny)


def areas(boxes: Tensor) -> Tensor:
    """Areas ``(…)`` of boxes ``(…, 4)``, as shares of the image's."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def pointing_game(maps: Tensor, inside: Tensor) -> Tensor:
    """Whether a map is largest at the object (Zhang et al., Top-down neural attention, ECCV 2016).

    The tolerance of 15 pixels around the object that the paper has is left out.

    Args:
        maps: ``(N, R)`` float.
        inside: ``(N, R)`` bool, of :func:`centres_inside`.

    Returns:
        ``(N,)``: 1 for a hit, 0 for a miss; where several places are largest, the share of them
        that lie inside.
    """
    largest = maps == maps.amax(dim=1, keepdim=True)
    return (largest & inside).sum(dim=1) / largest.sum(dim=1)


def mass_inside(maps: Tensor, inside: Tensor) -> Tensor:
    """The share of a map's positive part that lies on the object (Wang et al., Score-CAM, 2020).

    The value of a place is spread evenly over its area. A map without a positive part counts as
    even, so that it gets the share that chance would give.

    Args:
        maps: ``(N, R)`` float.
        inside: ``(N, R)``, the share of each place that is inside, of :func:`covered`.

    Returns:
        ``(N,)``, 0 to 1.
    """
    positive = maps.clamp(min=0)
    positive = torch.where((positive > 0).any(dim=1, keepdim=True), positive, 1.0)
    return (positive * inside).sum(dim=1) / positive.sum(dim=1)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of maps ``(…, R)``, pair by pair: ``(…)``, −1 to 1.

    Equal values share the mean of their ranks. It is NaN where a map is the same everywhere.
    """
    left, right = (ranks - ranks.mean(-1, keepdim=True) for ranks in map(_ranks, (first, second)))
    return (left * right).sum(-1) / (left.square().sum(-1) * right.square().sum(-1)).sqrt()


def _ranks(values: Tensor) -> Tensor:
    """The number of smaller values, and half a place for each equal one."""
    values = values.contiguous()
    in_order = values.sort().values
    smaller = torch.searchsorted(in_order, values)
    return (smaller + torch.searchsorted(in_order, values, right=True)).double() / 2
