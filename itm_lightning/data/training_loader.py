"""A loader that goes on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader
from typing_extensions import override

from itm_lightning.data.sampling import TrainingBatches
from itm_lightning.data.stream import StreamDataset
from itm_lightning.types import Batch


class TrainingLoader(DataLoader[Batch]):
    """Knows how many batches of an epoch it has handed out, and begins after them when resumed.

    Worker processes read ahead of what is handed out; that does not count. Lightning stores
    ``state_dict`` in checkpoints.

    No ``__init__`` of its own: Lightning, training on several devices, builds it anew from the
    attributes of a ``DataLoader``.
    """

    _handed_out = 0
    _skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """How far it is."""
        return {"batches": self._handed_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next epoch begins after the batches that ``state`` tells of, without reading them."""
        self._skipped = state["batches"]

    @override
    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        skipped, self._skipped = self._skipped, 0
        if isinstance(self.dataset, StreamDataset):
            self.dataset.skip(skipped)
        elif isinstance(self.batch_sampler, TrainingBatches):
            self.batch_sampler.skip(skipped)
        self._handed_out = skipped
        return self._counted(super().__iter__())

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self._handed_out += 1
            yield batch
