"""What W&B shows of a matcher beside numbers: what it retrieves, how it scores, where it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image, ImageDraw
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor
from typing_extensions import override

from itm_lightning.callbacks.wandb_run import wandb_logger
from itm_lightning.data.source import ImageSource, Record, Source, texts_by_id
from itm_lightning.distributed import as_sharded
from itm_lightning.encoders.base import Grid
from itm_lightning.errors import InputError
from itm_lightning.evaluating import RetrievalModule
from itm_lightning.metrics import Gallery
from itm_lightning.ranking import Neighbours, top_k
from itm_lightning.similarity.base import Aligning
from itm_lightning.types import AnyFeatures, Features

_SHOWN = 5  # answers of a query
_FEWEST_SCORED, _SHARE_SCORED = 32, 32  # queries of the histograms: so many, or 1 / 32 of the split
_MOST_MAPPED = 4  # pairs whose words are mapped
_THUMBNAIL = 160  # pixels of the longer side
_IN_A_ROW, _LINE = 6, 14  # words in a row of maps; pixels of a line of text


class WandbMedia(Callback):
    """Shows in W&B some queries of each evaluated split, always the same ones.

    At every validation epoch of a fit, and at a test, histograms of scores:
    ``val/matched_scores`` of some images, each with its first text; ``val/hardest_text_scores`` of
    the highest that does not belong to the image, among all texts; and
    ``val/hardest_image_scores`` the other way round. They are of 1 / 32 of the images, 32 at
    least, so that they add little to the time of an evaluation.

    At the end, when the best checkpoint is scored on val and on test: ``val/retrieved_texts`` and
    ``val/retrieved_images``, tables of ``samples`` queries with the five best answers, the right
    ones marked; and ``val/word_maps``, for a head that is
    :class:`~itm_lightning.similarity.base.Aligning` and an image encoder with a grid: which places
    each word of a few pairs is aligned with. A source that has only regions shows no images.

    Args:
        samples: queries in a table; 0 shows nothing of all this.

    Raises:
        InputError: ``samples`` is below 0.
    """

    def __init__(self, samples: int = 8) -> None:
        if samples < 0:
            raise InputError(f"wandb_media.samples is {samples}; it must be at least 0")
        self.samples = samples
        self._logger: WandbLogger | None = None

    @override
    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self._logger = wandb_logger(trainer)

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._show(trainer, pl_module, "val")

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._show(trainer, pl_module, "test")

    def _show(self, trainer: pl.Trainer, module: RetrievalModule, split: str) -> None:
        """Before the epoch is scored, and its features are forgotten; a collective."""
        if self._logger is None or not self.samples:
            return
        found = retrieve_samples(module, module.recall.gallery(), self.samples)
        # the best epoch's are among those of the fit
        media = {} if trainer.state.fn == "validate" else histograms(found)
        if trainer.state.fn != "fit":
            shown = found.evenly(self.samples)
            maps = word_maps(module, split, found.evenly(min(self.samples, _MOST_MAPPED)))
            if trainer.is_global_zero:
                media |= tables(module, split, shown) | maps
        if trainer.is_global_zero:
            named = {f"{split}/{name}": value for name, value in media.items()}
            self._logger.experiment.log(named, commit=False)  # one step with the epoch's scores


@dataclass(frozen=True)
class SampleRetrievals:
    """What some images and their first texts retrieved; row i of everything is one pair.

    Attributes:
        gallery: all images and texts; the tensors below are on the CPU.
        images: features of the ``n`` images.
        texts: features of their texts.
        image_ids: ``(n,)`` int64.
        text_ids: ``(n,)`` int64.
        matched: ``(n,)`` float32, the scores of the pairs.
        best_texts: ``(n, k)``, with as many texts as any image has, and one more.
        best_images: ``(n, k)``.
    """

    gallery: Gallery
    images: AnyFeatures
    texts: AnyFeatures
    image_ids: Tensor
    text_ids: Tensor
    matched: Tensor
    best_texts: Neighbours
    best_images: Neighbours

    def text_is_right(self) -> Tensor:
        """``(n, k)`` bool, of :attr:`best_texts`."""
        return self.gallery.text_image_ids.cpu()[self.best_texts.indices] == self.image_ids[:, None]

    def image_is_right(self) -> Tensor:
        """``(n, k)`` bool, of :attr:`best_images`."""
        return self.gallery.image_ids.cpu()[self.best_images.indices] == self.image_ids[:, None]

    def evenly(self, n: int) -> SampleRetrievals:
        """Some of the pairs, spread evenly."""
        rows = _evenly(len(self.image_ids), n)
        best = (
            Neighbours(top.scores[rows], top.indices[rows])
            for top in (self.best_texts, self.best_images)
        )
        on_device = rows.to(self.images.device)
        features = self.images[on_device], self.texts[on_device]
        ids = self.image_ids[rows], self.text_ids[rows]
        return SampleRetrievals(self.gallery, *features, *ids, self.matched[rows], *best)


@torch.no_grad()
def retrieve_samples(module: RetrievalModule, gallery: Gallery, samples: int) -> SampleRetrievals:
    """Scores some queries, at least ``samples``, against the whole gallery; a collective."""
    assert gallery.text_ids is not None  # every batch of a data module has them
    head, owners = module.similarity, gallery.text_image_ids.cpu()
    _, counts = owners.unique_consecutive(return_counts=True)  # texts lie by image
    n_scored = max(samples, _FEWEST_SCORED, len(counts) // _SHARE_SCORED)
    texts = (counts.cumsum(0) - counts)[_evenly(len(counts), n_scored)]  # the first of their image
    images = torch.searchsorted(gallery.image_ids.cpu(), owners[texts])
    all_images, all_texts = as_sharded(gallery.images), as_sharded(gallery.texts)
    sides = (all_images, images), (all_texts, texts)
    own_images, own_texts = (side.fetch(rows).to(side.device) for side, rows in sides)
    pairs: Any = own_images, own_texts
    k = max(_SHOWN, int(counts.max()) + 1)
    best_texts = top_k(head, all_images[images], all_texts, k, progress=False).i2t
    best_images = top_k(head, all_images, all_texts[texts], _SHOWN, progress=False).t2i
    return SampleRetrievals(
        gallery,
        own_images,
        own_texts,
        image_ids=owners[texts],
        text_ids=gallery.text_ids.cpu()[texts],
        matched=head.score_pairs(*pairs).float().cpu(),
        best_texts=Neighbours(best_texts.scores.cpu(), best_texts.indices.cpu()),
        best_images=Neighbours(best_images.scores.cpu(), best_images.indices.cpu()),
    )


def histograms(found: SampleRetrievals) -> dict[str, Any]:
    """Of the scores of pairs, and of the highest that are none."""
    import wandb

    scores = {"matched_scores": found.matched}
    for name, top, is_right in (
        ("hardest_text_scores", found.best_texts, found.text_is_right()),
        ("hardest_image_scores", found.best_images, found.image_is_right()),
    ):
        scores[name] = top.scores.masked_fill(is_right, -torch.inf).amax(dim=1)
    finite = {name: values[values.isfinite()] for name, values in scores.items()}
    return {name: wandb.Histogram(each.tolist()) for name, each in finite.items() if len(each)}


def tables(module: RetrievalModule, split: str, found: SampleRetrievals) -> dict[str, Any]:
    """The two tables of what the pairs' images and texts retrieved."""
    import wandb

    records = {record.image_id: record for record in module.data.records(split)}
    text_of = texts_by_id(records.values())
    assert found.gallery.text_ids is not None  # retrieve_samples has refused a gallery without
    text_ids, image_ids = found.gallery.text_ids.tolist(), found.gallery.image_ids.tolist()
    columns = [f"answer {place}" for place in range(1, _SHOWN + 1)]
    n_texts, n_images = found.best_texts.scores.shape[1], found.best_images.scores.shape[1]
    by_image = wandb.Table(columns=["image", *columns[:n_texts]])
    by_text = wandb.Table(columns=["text", "its image", *columns[:n_images]])
    rights = found.text_is_right().tolist(), found.image_is_right().tolist()
    for row, (image_id, text_id) in enumerate(
        zip(found.image_ids.tolist(), found.text_ids.tolist(), strict=True)
    ):
        query = _thumbnail(module.data.source, records[image_id])
        texts = _best(found.best_texts, row, rights[0][row])
        images = _best(found.best_images, row, rights[1][row])
        by_image.add_data(query, *(f"{mark} {text_of[text_ids[i]]}" for i, mark in texts))
        by_text.add_data(
            text_of[text_id],
            query,
            *(_thumbnail(module.data.source, records[image_ids[i]], mark) for i, mark in images),
        )
    return {"retrieved_texts": by_image, "retrieved_images": by_text}


def _best(top: Neighbours, row: int, right: list[bool]) -> list[tuple[int, str]]:
    """Row of the gallery, and mark and score, of a query's answers that are shown."""
    answers = zip(top.indices[row].tolist(), top.scores[row].tolist(), right, strict=True)
    return [(i, f"{'✓' if hit else '✗'} {score:.3f}") for i, score, hit in answers][:_SHOWN]


def _thumbnail(source: Source, record: Record, caption: str | None = None) -> Any:
    """W&B's image of a record, or its location where the source has no images."""
    import wandb

    if not isinstance(source, ImageSource):
        return f"{caption or ''} {record.location}".strip()
    image = source.image(record).copy()
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return wandb.Image(image, caption=caption, file_type="jpg")


@torch.no_grad()
def word_maps(module: Any, split: str, pairs: SampleRetrievals) -> dict[str, Any]:
    """For each pair a sheet of its image, once a word, bright where the word is aligned."""
    import wandb

    head, source = module.similarity, module.data.source
    encoder: Any = getattr(module, "image_encoder", None)  # an ensemble has several
    grid = encoder.grid() if encoder is not None and isinstance(source, ImageSource) else None
    images, texts = pairs.images, pairs.texts
    if not isinstance(head, Aligning) or grid is None:
        return {}
    assert isinstance(images, Features)  # those of an ensemble have no one grid
    assert isinstance(texts, Features)
    weights = head.alignment(images, texts).float().cpu()
    records = {record.image_id: record for record in module.data.records(split)}
    sheets = []
    for row, (image_id, text_id) in enumerate(
        zip(pairs.image_ids.tolist(), pairs.text_ids.tolist(), strict=True)
    ):
        record = records[image_id]
        text = record.texts[record.text_ids.index(text_id)]
        pixels = encoder.transform(train=False)(source.image(record))
        seen = Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
        words = [token.text for token in module.text_encoder.words([text])[0]]
        maps = weights[row, row, grid.first : grid.first + grid.rows * grid.columns].T
        sheets.append(wandb.Image(sheet(seen, words, maps, grid), caption=text, file_type="jpg"))
    return {"word_maps": sheets}


def sheet(image: Image.Image, words: list[str], maps: Tensor, grid: Grid) -> Image.Image:
    """One copy of an image a word, six in a row, lit where the word's weights are high.

    Args:
        image: as the encoder receives it.
        words: ``W`` of them.
        maps: ``(≥ W, rows · columns)``; each word's highest weight is fully lit.
        grid: of the weights.
    """
    width, height = _THUMBNAIL, _THUMBNAIL * image.height // image.width
    bright = image.convert("RGB").resize((width, height))
    dark = bright.point(lambda value: value // 4)
    n_rows, step = -(-len(words) // _IN_A_ROW), height + _LINE
    drawn = Image.new("RGB", (width * min(len(words), _IN_A_ROW), step * n_rows), "white")
    for number, (word, weights) in enumerate(zip(words, maps, strict=False)):
        shares = 255 * (weights / weights.max().clamp(min=1e-12)).clamp(0, 1)
        light = Image.fromarray(shares.byte().view(grid.rows, grid.columns).numpy())
        lit = Image.composite(bright, dark, light.resize(bright.size, Image.Resampling.BILINEAR))
        left, top = number % _IN_A_ROW * width, number // _IN_A_ROW * step
        drawn.paste(lit, (left, top + _LINE))
        ImageDraw.Draw(drawn).text((left + 2, top + 1), word, fill="black")
    return drawn


def _evenly(total: int, n: int) -> Tensor:
    """Up to ``n`` of the rows of ``total``, spread evenly."""
    return torch.linspace(0, total - 1, min(n, total)).round().long()
