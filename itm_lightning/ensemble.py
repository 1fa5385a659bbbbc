"""EnsembleMatcher: several Matchers that score as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import nn
from typing_extensions import override

from itm_lightning.evaluating import RetrievalModule
from itm_lightning.matcher import Matcher
from itm_lightning.sharding import shard_trunks
from itm_lightning.similarity import Ensemble
from itm_lightning.training.trainer_rules import check_trainer
from itm_lightning.types import MemberFeatures


class EnsembleMatcher(RetrievalModule):
    """The weighted mean of several Matchers' scores; each encodes images and texts by itself.

    Give it to ``trainer.validate``, ``trainer.test`` or ``trainer.predict`` like a Matcher. Every
    image is read and decoded once, for all members. Scores are averaged as they are, as SGRAF (Diao
    et al., AAAI 2021) and VSRN (Li et al., ICCV 2019) report of two models: members whose scores
    differ in scale need weights.

    Args:
        matchers: at least one, each trained.
        weights: one positive number a member; all 1 by default.

    Raises:
        InputError: there is no member, not one weight for each, or a weight is not positive.
    """

    def __init__(self, matchers: Sequence[Matcher], weights: Sequence[float] | None = None) -> None:
        heads = [matcher.similarity for matcher in matchers]
        super().__init__(Ensemble(heads, None if weights is None else list(weights)))
        self.matchers = nn.ModuleList(matchers)
        self.n_models = len(matchers)

    @override
    def encode_images(self, images: Any) -> MemberFeatures:
        """The images into each member's space.

        Args:
            images: what :meth:`Matcher.encode_images` takes, for all members; or
                :class:`~itm_lightning.types.MemberFeatures` with the pixels for each.
        """
        shared = not isinstance(images, MemberFeatures)
        parts = [images] * self.n_models if shared else images.parts
        members = zip(self._members(), parts, strict=True)
        return MemberFeatures(tuple(matcher.encode_images(part) for matcher, part in members))

    @override
    def encode_texts(self, texts: str | list[str]) -> MemberFeatures:
        """The texts into each member's space."""
        return MemberFeatures(tuple(matcher.encode_texts(texts) for matcher in self._members()))

    def setup(self, stage: str) -> None:
        """Checks everything before any long work."""
        self.data.connect(*(matcher.image_encoder for matcher in self._members()))
        for matcher in self._members():
            check_trainer(self.trainer, matcher)
            matcher.compile_parts()
        self.check_evaluation(stage)

    @override
    def configure_model(self) -> None:
        shard_trunks(self, self.trainer.strategy)

    def _members(self) -> list[Matcher]:
        return [cast(Matcher, matcher) for matcher in self.matchers]
