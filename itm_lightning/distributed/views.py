"""The same photos or captions, as several models see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from torch import Tensor
from typing_extensions import override

from itm_lightning.distributed.sharded_features import ShardedFeatures, as_sharded
from itm_lightning.types import Features


@dataclass(frozen=True)
class Views(ShardedFeatures):
    """The first model's features, and those of further models of the same rows.

    Attributes:
        further: the other models' features, spread over the same processes.
    """

    further: tuple[ShardedFeatures, ...] = ()

    @classmethod
    def of_models(cls, features: Sequence[Features | ShardedFeatures]) -> Views:
        """The features of each model, which are of the same rows in the same order."""
        first, *further = (as_sharded(each) for each in features)
        own = {field.name: getattr(first, field.name) for field in fields(ShardedFeatures)}
        return cls(**own, further=tuple(further))

    @property
    def of_each(self) -> list[ShardedFeatures]:
        """The features of each model."""
        own = {field.name: getattr(self, field.name) for field in fields(ShardedFeatures)}
        return [ShardedFeatures(**own), *self.further]

    @override
    def __getitem__(self, rows: slice | Tensor) -> Views:
        chosen = super().__getitem__(rows)
        assert isinstance(chosen, Views)
        return replace(chosen, further=tuple(each[rows] for each in self.further))

    @override
    def whole(self) -> Features | ShardedFeatures:
        return self
