"""Features and Batch, which all parts exchange, and arithmetic on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 unchanged."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def double(tensor: Tensor) -> Tensor:
    """To float64, which autocast leaves alone; to float32 on devices without it (Apple's)."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


RowsT = TypeVar("RowsT", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """A dataclass whose tensors share their first dimension: one row for each image or text.

    Fields may be ``None``. What a similarity prepares of one side (norms, Gram matrices, …) is a
    subclass, so that the ranking engine can slice it into blocks without knowing its fields.
    """

    def map(self: RowsT, function: Callable[[Any], Any]) -> RowsT:
        """Rows with the function applied to every tensor, also in rows within rows."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return type(self)(**{name: _mapped(value, function) for name, value in values.items()})

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor, in the order in which :meth:`map` reaches them."""
        for field in dataclasses.fields(self):
            yield from _tensors_of(getattr(self, field.name))

    def padded(self: RowsT, shapes: Iterable[Sequence[int]]) -> RowsT:
        """Pads every tensor with zeros.

        Args:
            shapes: the size of a padded row of every tensor, in the order of :meth:`tensors`.
        """
        wanted = iter(shapes)
        return self.map(lambda tensor: _pad_rows(tensor, next(wanted)))

    @staticmethod
    def cat(parts: Sequence[RowsT]) -> RowsT:
        """Concatenates rows of one type, padded on the right with zeros to the largest size."""
        columns = zip(*(part.tensors() for part in parts), strict=True)
        sizes = (zip(*(tensor.shape[1:] for tensor in column), strict=True) for column in columns)
        shapes = [tuple(map(max, each)) for each in sizes]
        padded = zip(*(part.padded(shapes).tensors() for part in parts), strict=True)
        return parts[0].map(lambda _: torch.cat(next(padded)))

    def __len__(self) -> int:
        return next(self.tensors()).shape[0]

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return next(self.tensors()).device

    def __getitem__(self: RowsT, rows: slice | Tensor) -> RowsT:
        return self.map(lambda value: value[rows])

    def to(self: RowsT, *args: Any, **kwargs: Any) -> RowsT:
        """Moves (or casts) every tensor; see :meth:`torch.Tensor.to`."""
        return self.map(lambda value: value.to(*args, **kwargs))

    def pin_memory(self: RowsT) -> RowsT:
        """Copies every tensor to page-locked memory, for asynchronous copies to a GPU."""
        return self.map(lambda value: value.pin_memory())

    def detach(self: RowsT) -> RowsT:
        """Detaches every tensor from its graph."""
        return self.map(lambda value: value.detach())


def _mapped(value: Tensor | Rows | None, function: Callable[[Any], Any]) -> Any:
    if value is None:
        return None
    return value.map(function) if isinstance(value, Rows) else function(value)


def _tensors_of(value: Tensor | Rows | None) -> Iterator[Tensor]:
    if isinstance(value, Rows):
        yield from value.tensors()
    elif value is not None:
        yield value


def _pad_rows(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    missing = [size - now for size, now in zip(shape, tensor.shape[1:], strict=True)]
    return F.pad(tensor, [n for m in reversed(missing) for n in (0, m)]) if any(missing) else tensor


@dataclass(frozen=True)
class Features(Rows):
    """The output of an encoder for a batch of images or texts.

    Attributes:
        tokens: ``(B, L, D)`` float, one vector for each region, patch or word; ``None`` where
            the encoder gives only a pooled vector, or where the head reads only that.
        mask: ``(B, L)`` bool, ``True`` at real tokens; ``None`` exactly when ``tokens`` is.
        pooled: ``(B, D)`` float, one vector for each image or text; ``None`` where it is not
            needed.
    """

    tokens: Tensor | None
    mask: Tensor | None
    pooled: Tensor | None

    def __post_init__(self) -> None:
        if (self.tokens is None) != (self.mask is None):
            raise ValueError("Features: tokens and mask come together")
        if self.tokens is None and self.pooled is None:
            raise ValueError("Features: needs tokens, a pooled vector, or both")

    @classmethod
    def from_pooled(cls, pooled: Tensor) -> Features:
        """Features without tokens, from vectors ``(B, D)``."""
        return cls(tokens=None, mask=None, pooled=pooled)

    @classmethod
    def from_tokens(cls, tokens: Tensor, mask: Tensor | None = None) -> Features:
        """Features from ``tokens (B, L, D)``; ``pooled`` is their mean over ``mask (B, L)``."""
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return cls(tokens=tokens, mask=mask, pooled=masked_mean(tokens, mask))

    def trim(self) -> Features:
        """Drops the columns of padding that no row of this batch needs."""
        if self.mask is None or self.tokens is None:
            return self
        used = self.mask.any(dim=0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        return Features(self.tokens[:, :length], self.mask[:, :length], self.pooled)

    @property
    def parts(self) -> tuple[Features, ...]:
        """These features alone; :class:`MemberFeatures` have several parts."""
        return (self,)


@dataclass(frozen=True)
class MemberFeatures(Rows):
    """The same images or texts, once for each member of an ensemble.

    Attributes:
        parts: one a member: the :class:`Features` that it made, what its head prepared of them, or
            the pixels that it reads. Members that read the same tensor share it.
    """

    parts: tuple[Any, ...]

    @override
    def map(self, function: Callable[[Any], Any]) -> MemberFeatures:
        mapped = {key: _mapped(part, function) for key, part in self._distinct().items()}
        return MemberFeatures(tuple(mapped[id(part)] for part in self.parts))

    @override
    def tensors(self) -> Iterator[Tensor]:
        for part in self._distinct().values():
            yield from _tensors_of(part)

    def _distinct(self) -> dict[int, Any]:
        return {id(part): part for part in self.parts}

    def trim(self) -> MemberFeatures:
        """Drops the columns of padding that no row of this batch needs, member by member."""
        return MemberFeatures(tuple(part.trim() for part in self.parts))


AnyFeatures = Features | MemberFeatures


class Widths(NamedTuple):
    """Numbers in a vector of each side, as the encoders give it and after the projections."""

    encoded_images: int
    encoded_texts: int
    images: int
    texts: int


@dataclass(frozen=True)
class Vectors(Rows):
    """One side, prepared for inner products: ``vectors (B, D)``."""

    vectors: Tensor


class Batch:
    """Images and texts, as the encoders read them.

    Not a dataclass: Lightning would replace a dataclass's tensors to change their precision, and
    fail where it is frozen. Encoders convert their input to the precision of their weights.

    Args:
        images: pixels ``(B, 3, H, W)`` uint8 as the image encoder's transform returns them, or
            :class:`Features` where a frozen trunk has already encoded the images, or
            :class:`MemberFeatures` with the pixels for each member of an ensemble.
        texts: ``T`` raw strings; or :class:`Features` of them, where the source has only vectors.
        image_ids: ``(B,)`` int64, one id for each image.
        text_image_ids: ``(T,)`` int64, the id of each text's image.
        text_ids: ``(T,)`` int64, one id for each text.
        labels: ``(B, C)`` bool, which of the source's classes each image has; ``C`` is 0 for a
            source without classes.
    """

    def __init__(
        self,
        images: Tensor | Features | MemberFeatures,
        texts: list[str] | Features,
        image_ids: Tensor,
        text_image_ids: Tensor,
        text_ids: Tensor,
        labels: Tensor,
    ) -> None:
        self.images = images
        self.texts = texts
        self.image_ids = image_ids
        self.text_image_ids = text_image_ids
        self.text_ids = text_ids
        self.labels = labels

    @property
    def ids(self) -> tuple[Tensor, Tensor, Tensor]:
        """``image_ids``, ``text_image_ids`` and ``text_ids``."""
        return self.image_ids, self.text_image_ids, self.text_ids

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """Moves all tensors; Lightning calls this between loader and step."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Pins all tensors; the loader calls this before they are copied to a GPU."""
        return self._map(lambda value: value.pin_memory())

    def _map(self, function: Any) -> Batch:
        moves = (Tensor, Rows)
        moved = {name: function(v) for name, v in vars(self).items() if isinstance(v, moves)}
        return Batch(**{**vars(self), **moved})


@dataclass(frozen=True)
class EncodedBatch:
    """A batch of pairs and its features; row ``i`` of both sides is a pair.

    Attributes:
        batch: raw texts, ids and labels.
        images, texts: the features that the head reads, projected.
        encoded_images: as the encoder gives them; ``None`` with ``model.gradient_cache``.
        encoded_texts: likewise.
        token_ids: from raw texts to ids; ``TextEncoder.token_ids``.
        words: from raw texts to the strings of tokens; ``TextEncoder.words``.
    """

    batch: Batch
    images: Features
    texts: Features
    encoded_images: Features | None
    encoded_texts: Features | None
    token_ids: Callable[[list[str]], tuple[Tensor, Tensor]]
    words: Callable[[list[str]], list[list[Any]]]


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``tokens (B, L, D)`` over ``mask (B, L)``; zero for a row without tokens."""
    weights = mask.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def unit_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """``tokens (B, L, D)`` of length 1, in float32 at least; zero at padding."""
    # filled and not multiplied: padding may hold anything, even NaN
    return F.normalize(at_least_float32(tokens.masked_fill(~mask.unsqueeze(-1), 0)), dim=-1)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast leaves the operations on this tensor's device alone.

    Many scores would be equal in bfloat16, and ties count against the model.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension, at least float32; zero stays zero."""
    return F.normalize(at_least_float32(vectors), dim=-1)
