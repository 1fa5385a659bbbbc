"""Explanations of scores: a map over the image for every word of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from itm_lightning.encoders.base import Grid
from itm_lightning.errors import InputError
from itm_lightning.explain.attributions import (
    alignment,
    contributions,
    projected,
    second_order,
)
from itm_lightning.explain.inputs import seen
from itm_lightning.explain.localisation import cells
from itm_lightning.explain.perturbations import gradient, occlusion
from itm_lightning.explain.words import Word, joined, text_inputs
from itm_lightning.matcher import Matcher
from itm_lightning.ranking.blocks import check_scores
from itm_lightning.similarity import Additive, Aligning, PooledSimilarity, Similarity

METHODS = ("auto", "contributions", "alignment", "second_order", "gradient", "occlusion")


@dataclass(frozen=True)
class Explanation:
    """Why a pair has its score, as one method sees it.

    Attributes:
        image: the image as the encoder sees it: what its transform crops is gone.
        text: the text.
        words: its ``W`` words, joined of the tokeniser's pieces, and its marks of start and end.
        maps: ``(W, R)`` float, a value of every word and place. Where the method gives parts of the
            score, ``maps``, ``unplaced`` and ``residue`` add up to it.
        grid: the places as a grid over the image, row by row.
        boxes: else the places as ``R`` boxes ``(R, 4)``: left, top, right and bottom as shares of
            the image's width and height. Where both are ``None`` the places are unknown.
        score: the head's score of the pair.
        residue: what the values leave out of the score; ``None`` where they are no parts of it.
        method: how the maps were made, one of :data:`METHODS` but ``auto``.
        unplaced: ``(W,)``, the values of tokens without a place, such as a class token.
        special: ``(W,)`` bool, which words are marks.
        head: the head's class.
        meaning: what the values are, in a sentence.
    """

    image: Image.Image
    text: str
    words: list[str]
    maps: Tensor
    grid: Grid | None
    boxes: Tensor | None
    score: float
    residue: float | None
    method: str
    unplaced: Tensor
    special: list[bool]
    head: str
    meaning: str

    @property
    def shares(self) -> Tensor:
        """Every word's sum over the image, ``(W,)``."""
        return self.maps.sum(dim=1) + self.unplaced

    @property
    def places(self) -> Tensor | None:
        """The places as boxes ``(R, 4)``, cells of the grid or regions; ``None`` if unknown."""
        return self.boxes if self.grid is None else cells(self.grid.rows, self.grid.columns)


def explain(
    matcher: Matcher, images: Any, texts: str | Sequence[str], method: str = "auto"
) -> list[Explanation]:
    """Explains the score of image ``i`` with text ``i``.

    Args:
        matcher: a trained Matcher; it is put into evaluation mode.
        images: one or many, see :func:`~itm_lightning.explain.inputs.seen`.
        texts: one or many, as many as images.
        method: one of :data:`METHODS`. ``auto`` is ``contributions`` where the head's score is a
            sum of parts, ``alignment`` where the head aligns words and places, ``second_order`` for
            other heads of pooled vectors, and else ``occlusion``.

    Raises:
        InputError: an image cannot be read, a text is empty, there are not as many texts as images,
            or the method is unknown or does not apply to the Matcher's head.
    """
    images = list(images) if isinstance(images, list | tuple) else [images]
    texts = [texts] if isinstance(texts, str) else list(texts)
    if len(images) != len(texts):
        raise InputError(f"{len(images)} images and {len(texts)} texts are no pairs: give as many")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise InputError(f"text {number} is empty: give a sentence")
    matcher.eval()
    name = method_for(matcher.similarity, method)
    return [_explained(matcher, *pair, name) for pair in zip(images, texts, strict=True)]


def method_for(head: Similarity, method: str) -> str:
    """The method that ``auto`` stands for, or the method itself.

    Raises:
        InputError: there is no such method.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; there are {', '.join(METHODS)}")
    if method != "auto":
        return method
    if isinstance(head, Additive):
        return "contributions"
    if isinstance(head, Aligning):
        return "alignment"
    return "second_order" if isinstance(head, PooledSimilarity) else "occlusion"


def _explained(matcher: Matcher, image: Any, text: str, method: str) -> Explanation:
    with torch.no_grad():
        place = seen(matcher.image_encoder, image)
        encoded = matcher.text_encoder([text])
        both = projected(matcher, place.encoded, encoded)
        score = matcher.similarity(*both)
        check_scores(score, matcher.similarity, *both)
    words = joined(matcher.text_encoder.words([text])[0])
    first = place.first  # of the image's tokens with a place
    if method in ("contributions", "alignment"):
        parts = {"contributions": contributions, "alignment": alignment}[method](
            matcher, place, encoded
        )
        by_word = _summed(parts.values, words, 0)
    elif method == "second_order":
        inputs = text_inputs(matcher.text_encoder, text)
        parts = second_order(matcher, place, inputs)
        by_word = _summed(parts.values, words, inputs.first)
    else:
        inputs = text_inputs(matcher.text_encoder, text)
        parts = {"occlusion": occlusion, "gradient": gradient}[method](
            matcher, place, inputs, words
        )
        by_word, first = parts.values, 0
    by_word = by_word.T.float().cpu()
    return Explanation(
        image=place.image,
        text=text,
        words=[word.text for word in words],
        maps=by_word[:, first:],
        grid=place.grid,
        boxes=place.boxes,
        score=float(score),
        residue=parts.residue,
        method=method,
        unplaced=by_word[:, :first].sum(dim=1),
        special=[word.special for word in words],
        head=type(matcher.similarity).__name__,
        meaning=parts.meaning,
    )


def _summed(values: Tensor, words: Sequence[Word], first: int) -> Tensor:
    """``(R, W)``: the sums of ``(R, L)`` over each word's tokens; column 0 is token ``first``."""
    columns = ([token - first for token in word.tokens if token >= first] for word in words)
    return torch.stack([values[:, each].sum(dim=1) for each in columns], dim=1)
