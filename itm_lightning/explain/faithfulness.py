"""Whether a score depends on what its map marks, and a map on what it claims to explain.

Deletion takes the places away that the map puts first, and insertion gives them back to a blurred
image (Petsiuk et al., RISE, BMVC 2018). The area under the score's curve is small for a good
deletion and large for a good insertion. The weights of a head are shuffled to see whether its maps
depend on them (Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itm_lightning.matcher import Matcher
from itm_lightning.types import Rows

STEPS = 20
BLUR_SIZE, BLUR_SIGMA = 11, 5.0  # pixels, as in RISE's code
_IMAGES_AT_ONCE = 64


def in_order(values: Tensor, seed: int) -> Tensor:
    """Indices ``(…, n)`` of values ``(…, n)``, the largest first.

    Equal values come in a random order, the same for all: maps of exact zeros are common, and in
    the image's own order they would go from its top to its bottom.
    """
    generator = torch.Generator().manual_seed(seed)
    at_random = torch.randperm(values.shape[-1], generator=generator).to(values.device)
    return at_random[values[..., at_random].argsort(descending=True, stable=True)]


def first_pixels(maps: Tensor, height: int, width: int, seed: int) -> Tensor:
    """The pixels that come first by each map, in growing numbers.

    Args:
        maps: ``(N, rows, columns)`` float over the whole image; between the cells' centres they are
            interpolated linearly.
        height: of the image, in pixels.
        width: of the image, in pixels.
        seed: of the order of equal values, see :func:`in_order`.

    Returns:
        ``(N, STEPS + 1, height, width)`` bool: none, then a 20th more in each step, at last all.
    """
    size = height, width
    fine = F.interpolate(maps[:, None].double(), size, mode="bilinear", align_corners=False)
    ranks = in_order(fine.flatten(1), seed).argsort()
    counts = height * width * torch.arange(STEPS + 1, device=maps.device) // STEPS
    return (ranks[:, None] < counts[:, None]).unflatten(2, size)


def deleted(pixels: Tensor, gone: Tensor) -> Tensor:
    """The image with its mean colour instead of the pixels that are gone.

    Args:
        pixels: ``(3, H, W)`` uint8.
        gone: ``(…, H, W)`` bool.

    Returns:
        ``(…, 3, H, W)`` uint8.
    """
    mean = pixels.double().mean(dim=(1, 2), keepdim=True).round().to(pixels.dtype)
    return torch.where(gone.unsqueeze(-3), mean, pixels)


def inserted(pixels: Tensor, given: Tensor) -> Tensor:
    """The image blurred, but for the pixels that are given; arguments as above."""
    from torchvision.transforms.v2.functional import gaussian_blur

    blurred = gaussian_blur(pixels, [BLUR_SIZE, BLUR_SIZE], [BLUR_SIGMA, BLUR_SIGMA])
    return torch.where(given.unsqueeze(-3), pixels, blurred)


def outranked(scores: Tensor, true: int) -> Tensor:
    """The share of the other texts that the true one outranks: 1 is rank 1, and 0 the last.

    Args:
        scores: ``(…, M)`` of ``M`` texts, at least 2; a text with the same score is not outranked.
        true: which of them is the true one.

    Returns:
        ``(…)``.
    """
    own = scores[..., true : true + 1]
    return (scores < own).double().sum(dim=-1) / (scores.shape[-1] - 1)


def area_under(curves: Tensor) -> Tensor:
    """The area ``(…)`` under curves ``(…, S + 1)`` over 0 to 1, by trapezoids."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[-1] - 1))


def relative(curves: Tensor) -> Tensor:
    """Curves ``(…, S + 1)`` on a scale from their first value (0) to their last (1), and clipped.

    A curve that does not end above its start is NaN: its score is not one of what is in the image.
    """
    first, last = curves[..., :1], curves[..., -1:]
    return ((curves - first) / torch.where(last > first, last - first, torch.nan)).clamp(0, 1)


def baselines(rows: int, columns: int, seed: int) -> Tensor:
    """Maps ``(2, rows, columns)`` that know nothing: a random one; largest at the centre."""
    generator = torch.Generator().manual_seed(seed)
    y, x = ((torch.arange(n) + 0.5) / n - 0.5 for n in (rows, columns))
    return torch.stack([torch.rand(rows, columns, generator=generator), -(y[:, None] ** 2 + x**2)])


@torch.no_grad()
def scores_of_pixels(matcher: Matcher, pixels: Tensor, texts: Rows) -> Tensor:
    """Scores ``(…, M)`` of images ``(…, 3, H, W)`` uint8 with texts that the head has prepared."""
    head, scores = matcher.similarity, []
    for some in pixels.flatten(0, -4).split(_IMAGES_AT_ONCE):
        images = head.prepare_images(matcher.encode_images(some.to(matcher.device)))
        scores.append(head.score(images, texts).float().cpu())
    return torch.cat(scores).unflatten(0, pixels.shape[:-3])


@contextmanager
def shuffled_weights(matcher: Matcher, seed: int = 0) -> Iterator[bool]:
    """A context in which every tensor of the head's weights has its numbers in random order.

    So do those of the projections and poolings; the encoders' trunks keep theirs.

    Yields:
        Whether there is any weight to shuffle.
    """
    parts: list[nn.Module] = [matcher.similarity, matcher.shared_projection]
    parts += [matcher.image_projection, matcher.image_encoder.pooling]
    parts += [matcher.text_projection, matcher.text_encoder.pooling]
    weights = {id(p): p for part in parts for p in part.parameters() if p.numel() > 1}
    trained = {key: weight.detach().clone() for key, weight in weights.items()}
    generator = torch.Generator().manual_seed(seed)
    try:
        for weight in weights.values():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.data = weight.data.flatten()[order].view_as(weight)
        yield bool(weights)
    finally:
        for key, weight in weights.items():
            weight.data = trained[key]
