"""What changes where something is hidden: methods that need nothing of the head but its scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from itm_lightning.errors import InputError
from itm_lightning.explain.attributions import Parts, projected
from itm_lightning.explain.inputs import Seen
from itm_lightning.explain.words import TextInputs, Word
from itm_lightning.matcher import Matcher
from itm_lightning.types import Features

_AT_ONCE = 64  # images of an occlusion that are encoded at a time


@torch.no_grad()
def occlusion(matcher: Matcher, image: Seen, text: TextInputs, words: Sequence[Word]) -> Parts:
    """``s(a, b) - s(a∖r, b) - s(a, b∖w) + s(a∖r, b∖w)`` of every place ``r`` and word ``w``.

    What the place and the word add to the score together, and neither without the other. A place is
    hidden by the mean colour in its cell (a region is left out), and a word as
    :class:`~itm_lightning.explain.words.TextInputs` says. It is the second-order difference that
    second-order attributions integrate, and asks nothing of encoders and head. After Zeiler,
    Fergus: "Visualizing and Understanding Convolutional Networks", ECCV 2014 (section 4.2).

    Returns:
        Values ``(places, words)``.
    """
    texts = text.encode(_with_hidden_words(text, words))
    scores = []
    for part in _with_hidden_places(matcher, image).split(_AT_ONCE):
        pair = projected(matcher, _encoded(matcher, image, part), texts)
        scores.append(matcher.similarity(*pair))
    whole = torch.cat(scores)
    values = whole[0, 0] - whole[1:, :1] - whole[:1, 1:] + whole[1:, 1:]
    meaning = "What a place and a word add to the score together: what is lost if either is hidden."
    return Parts(values, None, meaning)


def _with_hidden_words(text: TextInputs, words: Sequence[Word]) -> Tensor:
    """The text's inputs ``(1 + W, L, D)``: the whole, then each word hidden."""
    return torch.stack([text.values, *(text.without([word]) for word in words)])


def _with_hidden_places(matcher: Matcher, image: Seen) -> Tensor:
    """Pixels ``(1 + R, 3, H, W)``, or masks ``(1 + R, L)``: the whole, then each place hidden."""
    if isinstance(image.inputs, Features):
        mask = image.mask
        masks = mask.repeat(1 + mask.shape[1] - image.first, 1)
        masks[1:, image.first :].fill_diagonal_(False)
        return masks
    if image.grid is None:
        raise InputError("the image encoder's tokens have no places: occlusion has nothing to hide")
    rows, columns, _ = image.grid
    height, width = image.inputs.shape[-2:]
    pixels = image.inputs.repeat(1 + rows * columns, 1, 1, 1)
    colour = matcher.image_encoder.mean.round().to(pixels.dtype)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        pixels[
            1 + place,
            :,
            row * height // rows : (row + 1) * height // rows,
            column * width // columns : (column + 1) * width // columns,
        ] = colour
    return pixels


def _encoded(matcher: Matcher, image: Seen, versions: Tensor) -> Features:
    if not isinstance(image.inputs, Features):
        return matcher.image_encoder(versions)
    assert image.inputs.tokens is not None  # regions
    regions = image.inputs.tokens.expand(len(versions), -1, -1)
    return matcher.image_encoder(Features(regions, versions, None))


# -- gradients --------------------------------------------------------------------------------


class _FromGrid(nn.Module):
    """From an image's grid ``(1, C, rows, columns)`` to what each word adds to the score."""

    def __init__(self, matcher: Matcher, image: Seen, texts: Features) -> None:
        super().__init__()
        self.grid = nn.Identity()
        self._explained = matcher, image, texts

    def forward(self, grid: Tensor) -> Tensor:
        """``s(a, b) - s(a, b∖w)`` of every word, ``(1, W)``."""
        matcher, image, texts = self._explained
        before = image.tokens[:, : image.first]
        tokens = torch.cat([before, self.grid(grid).flatten(2).mT], dim=1)
        features = Features(tokens, image.mask, matcher.image_encoder.pooling(tokens, image.mask))
        scores = matcher.similarity(*projected(matcher, features, texts))
        return scores[:, :1] - scores[:, 1:]


def gradient(matcher: Matcher, image: Seen, text: TextInputs, words: Sequence[Word]) -> Parts:
    """Grad-CAM of what each word adds to the score, on the image encoder's tokens.

    Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", ICCV 2017 (equation 1, without the ReLU), by captum. What a word adds is
    ``s(a, b) - s(a, b∖w)``, the score without it subtracted; words are hidden as
    :class:`~itm_lightning.explain.words.TextInputs` says.

    Returns:
        Values ``(places, words)``.

    Raises:
        InputError: captum is not installed.
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise InputError("--method gradient needs captum: pip install captum") from error
    with torch.no_grad():
        texts = text.encode(_with_hidden_words(text, words))
    tokens = image.tokens
    places = tokens.detach()[:, image.first :].mT
    size = image.grid[:2] if image.grid else (places.shape[-1], 1)
    model = _FromGrid(matcher, image, texts)
    grad_cam = LayerGradCam(model, model.grid)
    grid = places.unflatten(-1, size).requires_grad_()
    maps = [
        grad_cam.attribute(grid, target=number, relu_attributions=False).flatten()
        for number in range(len(words))
    ]
    meaning = "Grad-CAM of what each word adds to the score."
    return Parts(torch.stack(maps, dim=1).detach(), None, meaning)
