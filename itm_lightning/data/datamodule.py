"""ITMDataModule: batches of a source's images and texts, as a Matcher reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

from itm_lightning.data.loading.decoding import DecodedImages, MemberTransforms, ReadImages
from itm_lightning.data.loading.frozen import FrozenTokens, frozen_tokens
from itm_lightning.data.loading.loaders import (
    Loading,
    evaluation_loader,
    every_pair_loader,
    training_loader,
)
from itm_lightning.data.loading.samples import ReadTexts
from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.data.records import check_disjoint
from itm_lightning.data.source import (
    SPLITS,
    ImageSource,
    Record,
    RegionSource,
    Source,
    VectorSource,
    raw_texts,
)
from itm_lightning.data.validation import (
    check_encoder,
    check_regions,
    check_same_records,
    checked_records,
    fingerprints,
    has_texts,
    splits_to_fit,
)
from itm_lightning.encoders.base import ImageEncoder
from itm_lightning.errors import InputError, Natural, Size, Workers, check_numbers
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.types import Batch, Features

_STAGE_SPLITS = {"validate": ("val",), "test": ("test",)}


class ITMDataModule(pl.LightningDataModule):
    """Batches of images and texts from a source.

    The transform comes from the image encoder that is connected, and texts stay raw strings, so
    that another encoder needs no change here. Where the encoder's trunk is frozen, ``fit`` runs it
    over the images once and trains from its tokens.

    Torch's seed at the time when the data module is made, and the epoch, decide the batches of an
    epoch and how their images are augmented; nothing else does.

    Images without texts are left out of training. In evaluation they are distractors: they are
    ranked with the other images, and are no queries.

    Args:
        source: the dataset.
        batch_size: the number of pairs in a training batch, and of images in an evaluation batch
            (each with all of its texts).
        num_workers: the number of processes that decode images; for regions there are none.
        augmented_views: where the trunk is frozen and the encoder augments, the number of augmented
            views of each training image; the trunk runs once over each, and every sample takes one
            of them at random. With 0, every sample is augmented and goes through the trunk.
        on_bad_image: what to do with an image that is missing or does not decode: ``raise``, or
            ``skip`` to leave it out and warn how many were.
        one_text: an epoch takes one text of each image, drawn again in each epoch, instead of every
            pair.
        bucketed: the texts of a training batch are of similar length, for less padding.

    Raises:
        InputError: a number is out of range, or ``one_text`` or ``bucketed`` is set for a source
            that is a stream, which is read in its own order.
    """

    def __init__(
        self,
        source: Source,
        batch_size: Size = 128,
        num_workers: Workers = 0,
        augmented_views: Natural = 0,
        on_bad_image: Literal["raise", "skip"] = "raise",
        one_text: bool = False,
        bucketed: bool = False,
    ) -> None:
        super().__init__()
        check_numbers(ITMDataModule, locals())
        if isinstance(source, StreamedSource) and (one_text or bucketed):
            raise InputError(
                f"{type(source).__name__} is a stream, read in its own order: leave "
                "data.one_text and data.bucketed off, or data.source.streaming"
            )
        self.source = source
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmented_views = augmented_views
        self.on_bad_image = on_bad_image
        self.one_text = one_text
        self.bucketed = bucketed
        self._records: dict[str, Sequence[Record]] = {}
        self._frozen: dict[str, FrozenTokens] = {}
        self.seed = torch.initial_seed()  # what the run was seeded with
        self._image_encoders: tuple[ImageEncoder, ...] = ()
        self._every_pair_once = False
        self._predict_split: str | None = None

    def connect(
        self, *image_encoders: ImageEncoder, every_pair_once: bool = False
    ) -> ITMDataModule:
        """Sets the encoder that reads the images: loaders use its transform from now on.

        Where its trunk is frozen, the loaders of a fit run it over each image once and give its
        tokens. A Matcher connects its own encoder. An ensemble connects those of its members: then
        every image is decoded once, and a batch has the pixels for each member.

        Args:
            *image_encoders: the encoder; of an ensemble, those of its members.
            every_pair_once: an epoch of training gives every pair exactly once over all processes,
                without augmentation, as a closed-form fit needs it.

        Raises:
            InputError: an encoder cannot read what the source has.
        """
        for encoder in image_encoders:
            check_encoder(self.source, encoder)
        if image_encoders != self._image_encoders:
            self._frozen.clear()  # they are another trunk's
        self._image_encoders = image_encoders
        self._every_pair_once = every_pair_once
        return self

    def setup(self, stage: str) -> None:
        """Reads and checks the splits that the stage needs, before any long work."""
        if self.trainer is not None:
            self.seed = self.trainer.strategy.broadcast(self.seed)
        if stage == "fit":
            check_disjoint(self.source)
        others = _STAGE_SPLITS.get(stage, (self.predict_split,))
        for split in splits_to_fit(self.source) if stage == "fit" else others:
            self.records(split)

    def records(self, split: str) -> Sequence[Record]:
        """The checked records of a split.

        Raises:
            InputError: the split has no texts, a label is unknown, or an image is bad.
        """
        if split not in self._records:
            self._records[split] = checked_records(self.source, split, self.on_bad_image)
        return self._records[split]

    def has_split(self, split: str) -> bool:
        """Whether the source has texts for the split."""
        return split in self._records or has_texts(self.source, split)

    @property
    def predict_split(self) -> str:
        """The split that ``predict`` runs over: test, or val where there is no test split.

        Raises:
            InputError: it is set to what is no split.
        """
        return self._predict_split or ("test" if self.has_split("test") else "val")

    @predict_split.setter
    def predict_split(self, split: str) -> None:
        if split not in SPLITS:
            raise InputError(
                f"there is no split {split!r} to predict; there are {', '.join(SPLITS)}"
            )
        self._predict_split = split

    def train_texts(self) -> list[str] | Features:
        """All texts of the train split, as the text encoder reads them, to learn words from."""
        records = self.records("train")
        return self._read_texts([(record, tuple(range(len(record.texts)))) for record in records])

    def train_vectors(self) -> Tensor | None:
        """The vectors of all images of the train split; ``None`` where the source has images."""
        if not isinstance(self.source, VectorSource):
            return None
        return self.source.image_vectors(self.records("train"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The source's classes: what each column of a batch's labels stands for."""
        return self.source.class_names

    def ground_truth(self, split: str) -> GroundTruth:
        """What is right in a split; of minimal pairs, both directions."""
        records = self.records(split)
        number = {name: i for i, name in enumerate(self.class_names)}
        pairs = {record.image_id: record.minimal_pair for record in records}
        labels = {record.image_id: [number[name] for name in record.labels] for record in records}
        return GroundTruth(
            texts_of_image={record.image_id: record.text_ids for record in records},
            minimal_pairs={image: other for image, other in pairs.items() if other is not None},
            labels=labels if number else {},
        )

    @override
    def train_dataloader(self) -> DataLoader[Batch]:
        images = self._read_images("train", train=not self._every_pair_once)
        records, loading = self.records("train"), self._loading("train")
        if self._every_pair_once:
            return every_pair_loader(records, images, loading)
        return training_loader(records, images, loading, self.seed, self.one_text, self.bucketed)

    @override
    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        # a fit without a validation split validates nothing, and its last epoch is its best
        return self.evaluation_loader("val") if self.has_split("val") else []

    @override
    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_loader("test")

    @override
    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_loader(self.predict_split)

    def evaluation_loader(self, split: str) -> DataLoader[Batch]:
        """Batches of a split's images with all of their texts, in order."""
        images = self._read_images(split)
        return evaluation_loader(self.records(split), images, self._loading(split))

    def _loading(self, split: str) -> Loading:
        # Tokens need no decoding; to send them from another process costs more than to read them.
        decodes = isinstance(self.source, ImageSource) and split not in self._frozen
        workers = self.num_workers if decodes else 0
        return Loading(self.batch_size, workers, self._on_gpu, self.class_names, self._read_texts)

    def _read_images(self, split: str, train: bool = False) -> ReadImages:
        """The function that reads the images of a split's records, for the connected encoders."""
        encoders = self._connected()
        if isinstance(self.source, RegionSource):
            for encoder in encoders:
                check_regions(self.source, self.records(split)[0], encoder)
            return self.source.batch
        assert isinstance(self.source, ImageSource)  # there are no others
        transforms = [encoder.transform(train) for encoder in encoders]
        transform = transforms[0] if len(transforms) == 1 else MemberTransforms(transforms)
        images = DecodedImages(self.source, transform)
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        views = self.augmented_views if train and encoders[0].augment else 1
        if fitting and views and encoders[0].frozen and split not in self._frozen:
            # Here, not in setup: by now a resumed run's trunk has its weights from the checkpoint.
            self._frozen[split] = self._frozen_tokens(split, encoders[0], images, views)
        return self._frozen.get(split, images)

    def _frozen_tokens(
        self, split: str, encoder: ImageEncoder, images: DecodedImages, views: int
    ) -> FrozenTokens:
        device = self.trainer.strategy.root_device  # type: ignore[union-attr]
        return frozen_tokens(
            encoder.to(device).trunk,
            self.records(split),
            images,
            views,
            device,
            self.num_workers,
            self.seed,
            title=f"frozen trunk, {split}",
        )

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "records": fingerprints(self._records)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seed = state_dict["seed"]
        if self.trainer is not None and self.trainer.state.fn == "fit":
            check_same_records(state_dict.get("records", {}), self._records)

    @override
    def transfer_batch_to_device(self, batch: Batch, device: torch.device, index: int) -> Batch:
        return batch.to(device, non_blocking=self._on_gpu)  # from pinned memory

    @property
    def _read_texts(self) -> ReadTexts:
        return self.source.read_texts if isinstance(self.source, VectorSource) else raw_texts

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _connected(self) -> tuple[ImageEncoder, ...]:
        if not self._image_encoders:
            raise InputError(
                "ITMDataModule needs the encoder that reads its images: call connect(image_encoder)"
            )
        return self._image_encoders
