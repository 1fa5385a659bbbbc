"""The pages of explanations: one a pair, self-contained, with a PNG beside it; and their index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from itm_lightning.errors import InputError, one_line
from itm_lightning.explain.explanation import Explanation
from itm_lightning.utils.atomic_files import write_text
from itm_lightning.utils.pages import data_uri, rendered

#: Of values above and below zero, on any image; told apart by colour-blind readers.
ABOVE, BELOW = (255, 106, 0), (0, 96, 255)
_DARKEST = 0.75  # opacity of the largest value: the image still shows
_WIDEST = 900  # pixels of the image in a page
_COMPRESSION = 3  # of PNGs: half the time of 6, and files a fifth larger
_LABELLED = 0.15  # places are labelled with a word from this share of the largest value on
_NARROWEST, _BROADEST = 1 / 4, 8  # width by height; an image beyond is stretched
_OURS = re.compile(r"index\.html|pair-\d+\.(html|png)|measures\.(json|png)")


def write_pages(
    pairs: Iterable[Sequence[Explanation]], count: int, labels: Sequence[str], folder: Path
) -> Path:
    """Writes ``pair-<n>.html`` and ``pair-<n>.png`` of every pair, and ``index.html``.

    Each pair is written as it comes, and the index at last; also where a later pair fails.

    Args:
        pairs: of each pair, the explanation of every Matcher.
        count: how many pairs come.
        labels: what the Matchers are called.
        folder: made where there is none; what an earlier run wrote there is removed.

    Returns:
        The index.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _OURS.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise InputError(
            f"--output {folder} is no folder to write in: {one_line(error)}"
        ) from error
    names = [f"pair-{number:0{len(str(count))}d}" for number in range(1, count + 1)]
    listed: list[dict[str, Any]] = []
    try:
        for number, (name, pair) in enumerate(zip(names, pairs, strict=True)):
            before, after = names[number - 1 : number], names[number + 1 : number + 2]
            views = [_view(each, label) for each, label in zip(pair, labels, strict=True)]
            links = {"before": before, "after": after, "png": f"{name}.png"}
            html = _render(text=pair[0].text, views=views, links=links, pairs=None)
            write_text(folder / f"{name}.html", html)
            picture_of(pair, labels).save(folder / f"{name}.png", compress_level=_COMPRESSION)
            listed.append(
                {
                    "name": name,
                    "text": pair[0].text,
                    "photo": _uri(pair[0].image, 240),
                    "width": pair[0].image.width,
                    "scores": [(each.head, each.score) for each in pair],
                }
            )
    finally:
        html = _render(text=None, views=[], links={}, pairs=listed)
        write_text(folder / "index.html", html)
    return folder / "index.html"


def _render(**values: Any) -> str:
    return rendered("explain/page.html", above=ABOVE, below=BELOW, **values)


# -- what a page shows ------------------------------------------------------------------------


def _view(explanation: Explanation, label: str) -> dict[str, Any]:
    """What the template shows of one explanation, in plain values."""
    limit, shares = largest(explanation.maps), explanation.shares
    most = largest(shares)
    words = [
        {
            "text": word,
            "special": special,
            "value": float(share),
            "colour": css(float(share) / most),
            "overlay": _overlay(explanation, row, limit),
        }
        for word, special, share, row in zip(
            explanation.words, explanation.special, shares, explanation.maps, strict=True
        )
    ]
    return {
        "label": label,
        "explanation": explanation,
        "photo": _uri(explanation.image, _WIDEST),
        "ratio": _ratio(explanation.image),
        "words": words,
        "whole": _overlay(explanation, explanation.maps.sum(0), largest(explanation.maps.sum(0))),
        "places": _places(explanation, limit),
        "sum": float(shares.sum()),
        "unplaced": float(explanation.unplaced.sum()),
        "limit": limit,
    }


def largest(values: Tensor) -> float:
    """The largest magnitude, to which colours are scaled; 1 where all are zero."""
    return float(values.abs().max()) or 1.0 if values.numel() else 1.0


def rgba(values: Tensor, limit: float) -> NDArray[np.uint8]:
    """Colours ``(…, 4)`` of values: their sign is the colour, their magnitude the opacity."""
    strength = (values / limit).clamp(-1, 1).numpy()
    colours = np.where((strength >= 0)[..., None], np.array(ABOVE), np.array(BELOW))
    opacity = _DARKEST * 255 * np.abs(strength)
    return np.concatenate([colours, opacity[..., None]], axis=-1).round().astype(np.uint8)


def css(strength: float) -> str:
    """The same as a colour of CSS, paler, to be read as a background of text."""
    colour = ABOVE if strength >= 0 else BELOW
    return f"rgb({colour[0]} {colour[1]} {colour[2]} / {min(1.0, abs(strength)) * 0.6:.3f})"


def _ratio(image: Image.Image) -> float:
    """The width by the height with which an image is shown."""
    return min(max(_NARROWEST, image.width / image.height), _BROADEST)


def _overlay(explanation: Explanation, values: Tensor, limit: float) -> dict[str, Any]:
    """A map as a small image, stretched over the photo; or as boxes with their colours."""
    colours = rgba(values, limit)
    if explanation.grid is not None:
        rows, columns, _ = explanation.grid
        return {"uri": data_uri(Image.fromarray(colours.reshape(rows, columns, 4))), "boxes": []}
    if explanation.boxes is None:
        return {"uri": None, "boxes": []}
    boxes, order = explanation.boxes.tolist(), values.abs().argsort()  # the strongest on top
    return {"uri": None, "boxes": [(boxes[i], _css_of(colours[i])) for i in order.tolist()]}


def _css_of(colour: NDArray[np.uint8]) -> str:
    red, green, blue, opacity = colour.tolist()
    return f"rgb({red} {green} {blue} / {opacity / 255:.2f})"


def _places(explanation: Explanation, limit: float) -> list[dict[str, Any]]:
    """Of every place its box, its values by word as shares of a limit, and the largest's word."""
    if explanation.places is None:
        return []
    real = [i for i, special in enumerate(explanation.special) if not special]
    places = []
    for box, column in zip(explanation.places.tolist(), explanation.maps.T, strict=True):
        best = max(real, key=lambda i: float(column[i]), default=None)
        value = 0.0 if best is None else float(column[best])
        label = explanation.words[best] if best is not None and value > _LABELLED * limit else ""
        values = [round(float(v) / limit, 3) for v in column]
        places.append({"box": box, "label": label, "value": value / limit, "values": values})
    return places


def _uri(image: Image.Image, widest: int) -> str:
    """The image as a data URI: a PNG where it is small, so that its pixels stay sharp."""
    if max(image.size) <= 160:
        return data_uri(image)
    image = image.copy()
    image.thumbnail((widest, widest))
    return data_uri(image.convert("RGB"), "jpeg", quality=86)


# -- pictures ---------------------------------------------------------------------------------

_COLUMNS, _TILE, _GAP, _LINE = 6, 200, 12, 24  # pixels


def picture_of(pair: Sequence[Explanation], labels: Sequence[str]) -> Image.Image:
    """The image and a map of every word, of each Matcher's explanation of one pair.

    Drawn by Pillow: twenty such figures take matplotlib half a minute.
    """
    parts = [_tiles_of(each, label) for each, label in zip(pair, labels, strict=True)]
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _tiles_of(explanation: Explanation, label: str) -> Image.Image:
    from matplotlib import get_data_path  # for its font, which has most scripts

    fonts = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    title, small = (ImageFont.truetype(str(fonts), size) for size in (16, 13))
    height = round(_TILE / _ratio(explanation.image))
    image = explanation.image.convert("RGB").resize((_TILE, height))
    limit, shares = largest(explanation.maps), explanation.shares.tolist()
    tiles = [("", image)]
    for word, share, values in zip(explanation.words, shares, explanation.maps, strict=True):
        tiles.append((f"{word}  {share:+.2g}", _with_map(explanation, image, values, limit)))
    lines = -(-len(tiles) // _COLUMNS)
    size = _GAP + _COLUMNS * (_TILE + _GAP), 2 * _LINE + lines * (height + _LINE + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    name = f"{label}: score {explanation.score:.3f} ({explanation.method})"
    draw.text((_GAP, _GAP), name, "#1f2328", title)
    for number, (text, tile) in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * (_TILE + _GAP), 2 * _LINE + row * (height + _LINE + _GAP)
        draw.text((left, top), text, "#1f2328", small)
        sheet.paste(tile, (left, top + _LINE))
    return sheet


def _with_map(
    explanation: Explanation, image: Image.Image, values: Tensor, limit: float
) -> Image.Image:
    grey, colours = image.convert("L").convert("RGBA"), rgba(values, limit)
    if explanation.grid is not None:
        rows, columns, _ = explanation.grid
        small = Image.fromarray(colours.reshape(rows, columns, 4))
        return Image.alpha_composite(grey, small.resize(image.size)).convert("RGB")
    layer = Image.new("RGBA", image.size)
    draw, (width, height) = ImageDraw.Draw(layer), image.size
    boxes = [] if explanation.boxes is None else explanation.boxes.tolist()
    for place in values.abs().argsort().tolist() if boxes else ():
        left, top, right, bottom = boxes[place]
        corners = left * width, top * height, right * width, bottom * height
        draw.rectangle(corners, outline=tuple(colours[place].tolist()), width=3)
    return Image.alpha_composite(grey, layer).convert("RGB")
