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
from itm_lightning.explain.definitions import GALLERY, LARGEST
from itm_lightning.explain.explanation import Explanation, explain
from itm_lightning.explain.faithfulness import (
    area_under,
    baselines,
    deleted,
    first_pixels,
    inserted,
    outranked,
    relative,
    scores_of_pixels,
    shuffled_weights,
    spans_of,
)
from itm_lightning.explain.inputs import crop_of, joined, text_inputs
from itm_lightning.explain.localisation import (
    areas,
    cells,
    centres_inside,
    covered,
    mass_inside,
    pointing_game,
    rank_correlation,
)
from itm_lightning.explain.pairs import spread
from itm_lightning.matcher import Matcher
from itm_lightning.types import Rows
from itm_lightning.utils.progress_bars import progress_bar


def measure_explanations(
    matcher: Matcher, data: ITMDataModule, split: str, n_images: int = 50, method: str = "auto"
) -> dict[str, float]:
    """Explains pairs of a split, and measures the explanations.

    Args:
        matcher: in evaluation mode.
        data: its source has images; boxes are measured where it has
            :meth:`~itm_lightning.data.source.ImageSource.mentions`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        n_images: how many images, spread evenly over the split, each with its first text.
        method: see :func:`~itm_lightning.explain.explanation.explain`.

    Returns:
        The mean of each measure over words or pairs, by the keys of
        :mod:`~itm_lightning.explain.definitions`. Those that the model or the source does not allow
        are left out.

    Raises:
        InputError: the source has no images, or the split has no texts.
    """
    source = data.source
    if not isinstance(source, ImageSource):
        raise InputError(
            f"explanations are measured on images, and {type(source).__name__} has only their "
            "regions: give a source of images"
        )
    with_texts = [record for record in data.records(split) if record.texts]
    ranked = spread(with_texts, max(GALLERY, n_images))
    with torch.no_grad():
        gallery = matcher.similarity.prepare_texts(
            matcher.encode_texts([record.texts[0] for record in ranked])
        )
    found: dict[str, list[Tensor]] = defaultdict(list)
    numbers = spread(range(len(ranked)), n_images)
    for number in progress_bar(numbers, desc="measure explanations", leave=False):
        record = ranked[number]
        pair = source.image(record), record.texts[0]
        (explanation,) = explain(matcher, *pair, method)
        shuffled: list[Explanation] = []
        # a method that integrates the head may fail on weights that nobody trained
        with suppress(InputError), shuffled_weights(matcher) as any_weights:
            shuffled = explain(matcher, *pair, method) if any_weights else []
        mentioned = _boxes(matcher, pair[0], source.mentions(record)[0])
        for values in (
            _of_boxes(explanation, mentioned),
            _of_pixels(matcher, explanation, gallery, number),
            _of_words(matcher, explanation, number),
            _of_maps(explanation, shuffled),
        ):
            for key, value in values.items():
                found[key].append(value.flatten())
    return {"images": len(numbers)} | _means(found)


def _means(found: dict[str, list[Tensor]]) -> dict[str, float]:
    """The mean of each measure, NaN left out; where there are classes of words, also over them."""
    values = {key: torch.cat(each) for key, each in found.items()}
    means = {key: float(v.nanmean()) for key, v in values.items() if not v.isnan().all()}
    classes: dict[str, list[float]] = defaultdict(list)
    for key in means:
        measure, _, word_class = key.partition("/")
        if word_class:
            classes[measure].append(means[key])
    counts = {
        f"words/{key.partition('/')[2]}": float(len(values[key]))
        for key in means
        if key.startswith("pointing/")
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
    places = _places(explanation)
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
    matcher: Matcher, explanation: Explanation, gallery: Rows, true: int
) -> dict[str, Tensor]:
    """Deletion and insertion, where the places are a grid on an image.

    Args:
        matcher: in evaluation mode.
        explanation: of the pair.
        gallery: texts, as the head prepared them.
        true: which of them is the pair's; the random order's seed, too.
    """
    grid = explanation.grid
    if grid is None or grid.rows * grid.columns == 1:
        return {}
    size = grid.rows, grid.columns
    orders = torch.cat([explanation.maps.sum(dim=0).view(1, *size), baselines(*size, seed=true)])
    batch = matcher.image_encoder.pixels([explanation.image])
    assert isinstance(batch, Tensor)  # of an image
    pixels = batch[0]
    first = first_pixels(orders, *pixels.shape[1:])
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
def _of_words(matcher: Matcher, explanation: Explanation, seed: int) -> dict[str, Tensor]:
    """Deletion of words, where the text encoder has embeddings that can be hidden."""
    try:
        inputs = text_inputs(matcher.text_encoder, explanation.text)
    except InputError:
        return {}
    (tokens,) = matcher.text_encoder.words([explanation.text])
    words = [number for number, special in enumerate(explanation.special) if not special]
    rows = [[token - inputs.first for token in word.tokens] for word in joined(tokens)]
    shares = explanation.shares[words]
    generator = torch.Generator().manual_seed(seed)
    encoder = matcher.image_encoder
    encoded = encoder(encoder.pixels([explanation.image]))
    measured = {}
    for name, order in (
        ("words_deletion", shares.argsort(descending=True, stable=True)),
        ("words_deletion_random", torch.randperm(len(words), generator=generator)),
    ):
        versions = [inputs.values]
        for number in order.tolist():
            hidden = rows[words[number]]
            versions.append(versions[-1].clone())
            versions[-1][hidden] = inputs.hidden[hidden]
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


def _places(explanation: Explanation) -> Tensor | None:
    if explanation.grid is None:
        return explanation.boxes
    return cells(explanation.grid.rows, explanation.grid.columns)
