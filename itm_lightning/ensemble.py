"""Checkpoints that score a split together with another one."""

from __future__ import annotations

from typing_extensions import override

from itm_lightning.errors import InputError
from itm_lightning.matcher import Matcher
from itm_lightning.metrics import Gallery
from itm_lightning.metrics.voters import Voter


class Encoding(Matcher):
    """A Matcher whose evaluation only encodes; others score what it made, see :meth:`voter`.

    Give it to ``trainer.validate``, ``trainer.test`` or ``trainer.predict``, and then to another
    Matcher's :attr:`voters` before that one's own.
    """

    _made: Gallery | None = None

    def voter(self, weight: float) -> Voter:
        """What it made of the split that it last saw, for one evaluation.

        Raises:
            InputError: it has not seen any.
        """
        if self._made is None:
            raise InputError("this Encoding has seen no split: give it to trainer.test first")
        made, self._made = self._made, None
        return Voter(weight, self.similarity, made)

    @override
    def evaluate_epoch(self, split: str) -> None:
        self.retrieve()

    @override
    def retrieve(self) -> None:
        self._made = self.recall.gallery()
        self.recall.reset()
