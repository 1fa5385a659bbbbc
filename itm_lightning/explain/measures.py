"""Explanations measured on a split: do maps lie on what their words name, and does it matter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itm_lightning.data import ITMDataModule
from itm_lightning.data.source import ImageSource, Mention
from itm_lightning.errors import InputError
from itm_lightning.explain.attributions import projected
from itm_lightning.explain.definitions import GALLERY, LARGEST, MEASURES
from itm_lightning.explain.explanation import Explanation, explain
from itm_lightning.explain.faithfulness import (
    area_under,
    baselines,
    deleted,
    first_pixels,
    in_order,
    inserted,
    outranked,
    relative,
    scores_of_pixels,
    shuffled_weights,
)
from itm_lightning.explain.inputs import crop_of
from itm_lightning.explain.localisation import (
    areas,
    centres_inside,
    covered,
    mass_inside,
    pointing_game,
    rank_correlation,
)
from itm_lightning.explain.pairs import explained_records, spread
from itm_lightning.explain.words import joined, spans_of, text_inputs
from itm_lightning.matcher import Matcher
from itm_lightning.types import Rows
from itm_lightning.utils.progress_bars import progress_bar


class Measures:
    """Measures the explanations of one Matcher, pair by pair.

    Args:
        matcher: in evaluation mode.
        data: its source has images; boxes are measured where it has
            :meth:`~itm_lightning.data.source.ImageSource.mentions`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        count: of the images, see :func:`~itm_lightning.explain.pairs.explained_records`.
        method: see :func:`~itm_lightning.explain.explanation.explain`.

    Attributes:
        source: of the images.
        records: those that are explained.

    Raises:
        InputError: the source has no images, or the split has no texts.
    """

    def __init__(
        self, matcher: Matcher, data: ITMDataModule, split: str, count: int, method: str
    ) -> None:
        if not isinstance(data.source, ImageSource):
            raise InputError(
                f"explanations are measured on images, and {type(data.source).__name__} has only "
                "their regions: give a source of images"
            )
        self.source = data.source
        self.records, others = explained_records(data, split, count)
        self._matcher, self._method = matcher.eval(), method
        ranked = [*self.records, *spread(others, max(0, GALLERY - len(self.records)))]
        with torch.no_grad():
            self._gallery = matcher.similarity.prepare_texts(
                matcher.encode_texts([record.texts[0] for record in ranked])
            )
        self._found: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, number: int, image: Image.Image, explanation: Explanation) -> None:
        """Measures an explanation.

        Args:
            number: of its record.
            image: the record's, as the source gives it.
            explanation: of the image and the record's first text.
        """
        matcher, shuffled = self._matcher, []
        # a method that integrates the head may fail on weights that nobody trained
        with suppress(InputError), shuffled_weights(matcher) as any_weights:
            shuffled = (
                explain(matcher, image, explanation.text, self._method) if any_weights else []
            )
        pixels = matcher.image_encoder.pixels([image])
        assert isinstance(pixels, Tensor)  # of an image
        mentions = self.source.mentions(self.records[number])[0]
        for values in (
            _of_boxes(explanation, _boxes(matcher, image, mentions)),
            _of_pixels(matcher, explanation, pixels[0], self._gallery, number),
            _of_words(matcher, explanation, pixels, number),
            _of_maps(explanation, shuffled),
        ):
            for key, value in values.items():
                self._found[key].append(value.flatten())

    def means(self) -> dict[str, float]:
        """The mean of each measure over words or pairs.

        By the keys of :mod:`~itm_lightning.explain.definitions`; those that the model or the source
        does not allow are left out.
        """
        return {"images": len(self.records)} | _means(self._found)


def measure_explanations(
    matcher: Matcher, data: ITMDataModule, split: str, n_images: int = 50, method: str = "auto"
) -> dict[str, float]:
    """Explains pairs of a split, and measures the explanations; see :class:`Measures`."""
    measures = Measures(matcher, data, split, n_images, method)
    bar = progress_bar(measures.records, desc="measure explanations", leave=False)
    for number, record in enumerate(bar):
        image = measures.source.image(record)
        measures.add(number, image, explain(matcher, image, record.texts[0], method)[0])
    return measures.means()


def _means(found: dict[str, list[Tensor]]) -> dict[str, float]:
    """The mean of each measure, NaN left out, and of how many values it is one.

    Where there are classes of words, also the mean over them.
    """
    values = {key: torch.cat(each) for key, each in found.items()}
    means = {key: float(v.nanmean()) for key, v in values.items() if not v.isnan().all()}
    classes: dict[str, list[float]] = defaultdict(list)
    for key in means:
        measure, _, word_class = key.partition("/")
        if word_class:
            classes[measure].append(means[key])
    counts = {
        f"words/{key.partition('/')[2]}" if "/" in key else f"pairs/{key}": float(
            len(values[key]) - values[key].isnan().sum()
        )
        for key in means
        if key.partition("/")[0] in MEASURES
    }
    return {m: sum(each) / len(each) for m, each in classes.items()} | means | counts


def _boxes(
    matcher: Matcher, image: Image.Image, mentions: Iterable[Mention]
) -> list[tuple[Mention, Tensor]]:
    """Each mention with its boxes ``(K, 4)`` in the image as it is encoded; no large ones."""
    left, top, right, bottom = crop_of(matcher.image_encoder.transform(train=False), image.size)
    start, side = torch.tensor([left, top] * 2), torch.tensor([right - left, bottom - top] * 2)
    found = []
    for mention in mentions:
        edges = torch.tensor([[b.left, b.top, b.right, b.bottom] for b in mention.boxes])
        boxes = ((edges / torch.tensor(image.size * 2) - start) / side).clamp(0, 1)
        if areas(boxes).sum() <= LARGEST:
            found.append((mention, boxes))
    return found


def _of_boxes(
    explanation: Explanation, mentioned: Sequence[tuple[Mention, Tensor]]
) -> dict[str, Tensor]:
    """The measures of boxes, a value of each word that speaks of objects."""
    words = {
        span[0]: map_
        for span, map_ in zip(_spans(explanation), explanation.maps, strict=True)
        if span is not None
    }
    places = explanation.places
    told = [(mention, boxes) for mention, boxes in mentioned if mention.start in words]
    if places is None or not told:
        return {}
    maps = torch.stack([words[mention.start] for mention, _ in told])
    boxes = pad_sequence([boxes for _, boxes in told], batch_first=True)
    inside = centres_inside(places, boxes)
    measured = {
        "pointing": pointing_game(maps, inside),
        "pointing_random": inside.float().mean(dim=1),
        "pointing_centre": centres_inside(torch.tensor([[0.0, 0, 1, 1]]), boxes)[:, 0].float(),
        "pointing_best": inside.any(dim=1).float(),
        "mass": mass_inside(maps, covered(places, boxes)),
        "mass_area": areas(boxes).sum(dim=1),
    }
    classes = [mention.word_class for mention, _ in told]
    return {
        f"{measure}/{word_class}": values[[c == word_class for c in classes]]
        for measure, values in measured.items()
        for word_class in set(classes)
    }


def _of_pixels(
    matcher: Matcher, explanation: Explanation, pixels: Tensor, gallery: Rows, true: int
) -> dict[str, Tensor]:
    """Deletion and insertion, where the places are a grid on an image.

    Args:
        matcher: in evaluation mode.
        explanation: of the pair.
        pixels: of the image, as the encoder reads it, ``(3, H, W)`` uint8.
        gallery: texts, as the head prepared them.
        true: which of them is the pair's; the seed of all random orders, too.
    """
    grid = explanation.grid
    if grid is None or grid.rows * grid.columns == 1:
        return {}
    size = grid.rows, grid.columns
    orders = torch.cat([explanation.maps.sum(dim=0).view(1, *size), baselines(*size, seed=true)])
    height, width = pixels.shape[1:]
    first = first_pixels(orders, height, width, seed=true)
    measured = {}
    for measure, change in (("deletion", deleted), ("insertion", inserted)):
        scores = scores_of_pixels(matcher, change(pixels, first), gallery)
        curves = scores[..., true]
        rising = curves.flip(-1) if measure == "deletion" else curves
        by_score, by_rank = area_under(relative(rising)), area_under(outranked(scores, true))
        for number, order in enumerate(("", "_random", "_centre")):
            measured[f"{measure}{order}"] = by_score[number]
            measured[f"{measure}_rank{order}"] = by_rank[number]
    return measured


@torch.no_grad()
def _of_words(
    matcher: Matcher, explanation: Explanation, pixels: Tensor, seed: int
) -> dict[str, Tensor]:
    """Deletion of words, where the text encoder has embeddings that can be hidden.

    Args:
        matcher: in evaluation mode.
        explanation: of the pair.
        pixels: of the image, as the encoder reads it, ``(1, 3, H, W)`` uint8.
        seed: of all random orders.
    """
    try:
        inputs = text_inputs(matcher.text_encoder, explanation.text)
    except InputError:
        return {}
    (tokens,) = matcher.text_encoder.words([explanation.text])
    words = [word for word in joined(tokens) if not word.special]
    shares = explanation.shares[[not special for special in explanation.special]]
    encoded = matcher.image_encoder(pixels)
    measured = {}
    for name, values in (
        ("words_deletion", shares),
        ("words_deletion_random", torch.zeros(len(words))),
    ):
        first = [words[number] for number in in_order(values, seed).tolist()]
        versions = [inputs.without(first[:count]) for count in range(len(first) + 1)]
        pair = projected(matcher, encoded, inputs.encode(torch.stack(versions)))
        curve = matcher.similarity(*pair)[0].float().cpu()
        measured[name] = area_under(relative(curve.flip(-1)))
    return measured


def _of_maps(explanation: Explanation, shuffled: Sequence[Explanation]) -> dict[str, Tensor]:
    """Correlations of the maps of different words, and of maps before and after shuffling."""
    words = [n for n, span in enumerate(_spans(explanation)) if span is not None]
    maps, names = explanation.maps[words], [explanation.words[n].lower() for n in words]
    pairs = [(a, b) for a in range(len(names)) for b in range(a) if names[a] != names[b]]
    one, other = zip(*pairs, strict=True) if pairs else ((), ())
    measured = {"other_word": rank_correlation(maps[list(one)], maps[list(other)]).nanmean()}
    for again in shuffled:
        measured["shuffled_weights"] = rank_correlation(maps, again.maps[words]).nanmean()
    return measured


def _spans(explanation: Explanation) -> list[tuple[int, int] | None]:
    words = zip(explanation.words, explanation.special, strict=True)
    return spans_of(["" if special else word for word, special in words], explanation.text)
