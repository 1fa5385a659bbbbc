"""The same photos or captions, as several models see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from torch import Tensor
from typing_extensions import override

from itm_lightning.distributed.sharded_features import Spread, as_spread
from itm_lightning.types import Features


@dataclass(frozen=True)
class Views(Spread):
    """The first model's features, and those of further models of the same rows.

    Attributes:
        further: the other models' features, spread over the same processes.
    """

    further: tuple[Spread, ...] = ()

    @classmethod
    def of_models(cls, features: Sequence[Features | Spread]) -> Views:
        """The features of each model, which are of the same rows in the same order."""
        first, *further = (as_spread(each) for each in features)
        own = {field.name: getattr(first, field.name) for field in fields(Spread)}
        return cls(**own, further=tuple(further))

    @property
    def of_each(self) -> list[Spread]:
        """The features of each model."""
        own = {field.name: getattr(self, field.name) for field in fields(Spread)}
        return [Spread(**own), *self.further]

    @override
    def __getitem__(self, rows: slice | Tensor) -> Views:
        chosen = super().__getitem__(rows)
        assert isinstance(chosen, Views)
        return replace(chosen, further=tuple(each[rows] for each in self.further))

    @override
    def whole(self) -> Features | Spread:
        return self
