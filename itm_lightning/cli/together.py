"""``--ensemble``: further checkpoints that score with the one of ``--ckpt_path``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from itm_lightning.cli.checkpoint_config import read_checkpoint
from itm_lightning.ensemble import Encoding
from itm_lightning.errors import InputError
from itm_lightning.matcher import Matcher


class Together:
    """Further models; validate, test and predict average their scores with ``--ckpt_path``'s.

    Args:
        checkpoints: of the further models; each has encoders and a head of its own.
        weights: one for each model, that of ``--ckpt_path`` first; all 1 by default.

    Raises:
        InputError: a checkpoint is missing, there are not as many weights as models, or one is
            not above 0.
    """

    def __init__(
        self, checkpoints: list[str] | None = None, weights: list[float] | None = None
    ) -> None:
        self.checkpoints = checkpoints or []
        n_models = 1 + len(self.checkpoints)
        self.weights = [1.0] * n_models if weights is None else weights
        if len(self.weights) != n_models or min(self.weights) <= 0:
            raise InputError(
                f"--ensemble.weights is {weights}, for {n_models} models: give one number above 0 "
                "for each, that of --ckpt_path first"
            )
        for path in self.checkpoints:
            read_checkpoint(Path(path), "--ensemble.checkpoints")
        self._models: list[Encoding] = []

    def load(self, command: str, ckpt_path: str | None) -> None:
        """Loads the models, before anything long begins.

        Raises:
            InputError: the command scores nothing, or has no checkpoint of its own.
        """
        if not self.checkpoints:
            return
        if command not in ("validate", "test", "predict"):
            raise InputError(
                f"--ensemble is for validate, test and predict; {command} has one model"
            )
        if ckpt_path is None:
            raise InputError("--ensemble needs --ckpt_path, too: the first of the models")
        self._models = [Encoding.load_from_checkpoint(path) for path in self.checkpoints]

    def encode(self, run: Callable[..., Any], matcher: Matcher, **kwargs: Any) -> None:
        """Lets each model encode the split that the matcher is to score next.

        Args:
            run: the trainer's ``validate``, ``test`` or ``predict``.
            matcher: the model of ``--ckpt_path``.
            **kwargs: what ``run`` takes besides the model.
        """
        voters = []
        for model, weight in zip(self._models, self.weights[1:], strict=True):
            run(model=model, **kwargs)
            voters.append(model.voter(weight))
        matcher.voters, matcher.weight = voters, self.weights[0]
