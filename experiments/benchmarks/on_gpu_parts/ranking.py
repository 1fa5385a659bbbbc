"""How fast heads rank and score on a device, beside the products that they cannot avoid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from made_up import made_up
from matrix_products import images_by_texts, regions_by_words
from side_by_side import first_and_again
from similarity import beside_floors, make_head
from torch import Tensor
from torch.nn import functional as F

from itm_lightning import list_registered
from itm_lightning.metrics.functional import recall_from_ranks
from itm_lightning.ranking import Ranks, rank
from itm_lightning.similarity import Cosine, CrossAttention, Similarity
from itm_lightning.types import Features

T = TypeVar("T")
Measurements = Iterator[tuple[str, Callable[[], dict[str, Any]]]]

_TEXTS = 5  # a photo
_COCO = 5000, 36, 1024  # photos, regions, width
_ALIKE = 0.12  # how much a word looks like a region of its photo: R@1 is then neither 0 nor 100


@dataclass(frozen=True)
class Gallery:
    """Photos, five captions each.

    Attributes:
        images: their features.
        texts: of the captions, photo after photo.
    """

    images: Features
    texts: Features

    @classmethod
    def like_coco(cls, device: torch.device, tiny: bool) -> Gallery:
        """Of COCO 5K's sizes; each word looks a little like one region of its photo."""
        n_images, regions, dim = (20, 4, 32) if tiny else _COCO
        with device:
            images, texts = made_up(n_images, _TEXTS * n_images, regions, dim)
            its_image = torch.arange(n_images).repeat_interleave(_TEXTS).unsqueeze(1)
            region = torch.randint(regions, texts.mask.shape)
        tokens = texts.tokens + _ALIKE * images.tokens[its_image, region]
        tokens = F.normalize(tokens, dim=-1) * texts.mask.unsqueeze(-1)
        return cls(images, Features.from_tokens(tokens, texts.mask))

    def first(self, n_images: int) -> Gallery:
        """The first photos with their captions."""
        return Gallery(self.images[:n_images], self.texts[: _TEXTS * n_images])

    def to_dtype(self, dtype: torch.dtype) -> Gallery:
        """The same in another precision, as an encoder would give it."""

        def converted(tensor: Tensor) -> Tensor:
            return tensor.to(dtype) if tensor.is_floating_point() else tensor  # a mask

        return Gallery(self.images.map(converted), self.texts.map(converted))

    def rank(self, head: Similarity) -> Ranks:
        """The ranks by a head."""
        ids = torch.arange(len(self.images))
        owners = ids.repeat_interleave(_TEXTS)
        return rank(head, self.images, self.texts, ids, owners, progress=False)

    @property
    def size(self) -> str:
        """As a title has it."""
        return f"{len(self.images):,} × {len(self.texts):,}"


def scan(device: torch.device, tiny: bool) -> Measurements:
    """SCAN, plain and compiled, in three precisions, beside its bare product."""
    gallery = Gallery.like_coco(device, tiny)
    heads = {
        (direction, how): _scan(direction, how == "compiled")
        for direction in ("t2i", "i2t")
        for how in ("eager", "compiled")
    }
    exact: dict[str, Ranks] = {}  # fp32's, by direction
    for precision in ("fp32", "TF32", "bf16"):
        seen = gallery.to_dtype(torch.bfloat16) if precision == "bf16" else gallery
        yield f"bare product, {gallery.size}, {precision}", partial(_product, seen, precision)
        for (direction, how), head in heads.items():
            run = partial(_in_precision, precision, partial(seen.rank, head))
            name = f"SCAN {direction}, {gallery.size}, {precision}, {how}"
            yield name, partial(_beside_exact, run, exact, direction, precision)


def _scan(direction: str, compiled: bool) -> CrossAttention:
    head = CrossAttention(direction)
    if compiled:
        head.compile(dynamic=True)
    return head


def _product(gallery: Gallery, precision: str) -> dict[str, float]:
    run = partial(regions_by_words, gallery.images, gallery.texts)
    return first_and_again(partial(_in_precision, precision, run))[0]


def _in_precision(precision: str, run: Callable[[], T]) -> T:
    """With float32 products as they are, or in TF32, in which bf16 features are scored."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    try:
        return run()
    finally:
        torch.set_float32_matmul_precision(before)


def _beside_exact(
    run: Callable[[], Ranks], exact: dict[str, Ranks], direction: str, precision: str
) -> dict[str, Any]:
    figures, ranks = first_and_again(run)
    recalls = _recalls(ranks)
    figures |= {key: recalls[key] for key in ("i2t_R@1", "t2i_R@1")}
    if precision == "fp32":
        exact.setdefault(direction, ranks)
    if direction not in exact:
        return figures
    expected = exact[direction]
    others = _recalls(expected)
    moved = (ranks.i2t != expected.i2t).sum() + (ranks.t2i != expected.t2i).sum()
    differ = max(abs(recalls[key] - others[key]) for key in recalls)
    return figures | {"R@K off fp32's by": differ, "ranks that differ": int(moved)}


def _recalls(ranks: Ranks) -> dict[str, float]:
    found = recall_from_ranks(ranks.i2t, ranks.t2i)
    return {key: value.item() for key, value in found.items() if "R@" in key}


def other_heads(device: torch.device, tiny: bool) -> Measurements:
    """Ranks by the cosine, beside its product, and by heads over tokens; all in fp32."""
    gallery = Gallery.like_coco(device, tiny)
    sides = gallery.images, gallery.texts
    vectors = [torch.randn(len(side), side.tokens.shape[-1], device=device) for side in sides]
    pooled = Gallery(*map(Features.from_pooled, vectors))
    yield f"Cosine, {pooled.size}", lambda: first_and_again(partial(pooled.rank, Cosine()), 5)[0]
    yield f"its bare product, {pooled.size}", partial(_vector_product, *vectors)
    fewer = gallery.first(len(gallery.images) // 5)
    for name, ranked in {
        "MaxSim": gallery,
        "OptimalTransport": fewer,
        "SGR": fewer,
        "SAF": fewer,
    }.items():
        yield f"{name}, {ranked.size}", partial(_other, name, ranked)


def _vector_product(images: Tensor, texts: Tensor) -> dict[str, float]:
    return first_and_again(partial(images_by_texts, images, texts), 5)[0]


def _other(name: str, gallery: Gallery) -> dict[str, float]:
    tokens = gallery.images.tokens
    head = make_head(name, tokens.shape[-1]).to(tokens.device).eval()
    return first_and_again(partial(gallery.rank, head))[0]


def beside_products(device: torch.device, tiny: bool) -> Measurements:
    """Every registered head, forward and backward, beside the products that it makes."""
    size = (4, 6, 3, 8) if tiny else (128, 128, 36, 1024)
    with device:
        sides = made_up(*size)
    for name in list_registered("similarity"):
        yield f"{name}, {size[0]} × {size[1]}", partial(_beside_products, name, *sides)


def _beside_products(name: str, images: Features, texts: Features) -> dict[str, float]:
    head = make_head(name, images.tokens.shape[-1]).to(images.tokens.device)
    times = beside_floors(head, images, texts, repeats=3, title=name)
    figures = {}
    for way in ("forward", "backward"):
        figures[f"{way} ms"] = 1000 * times[way].median
        figures[f"{way} floor"] = (times[f"{way} floor"] / times[way]).median
    return figures
