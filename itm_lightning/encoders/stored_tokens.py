"""Tokens of a frozen text encoder, kept on disk for all epochs and all runs."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itm_lightning.errors import InputError, one_line


class _Place(NamedTuple):
    """Where the tokens of a text lie: ``length`` rows from row ``start`` of a file."""

    path: Path
    start: int
    length: int


class StoredTokens:
    """A folder of texts and their tokens, float16; what it lacks is computed and added.

    Several processes may add at once: each writes files of its own, and reads those that were there
    when it began. A text is listed after its tokens are on disk, so a process may be stopped at any
    moment.

    Args:
        folder: of one encoder's tokens; made where it is missing.
        dim: width of the tokens.

    Raises:
        InputError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._places: dict[str, _Place] = {}
        self._maps: dict[Path, NDArray[np.float16]] = {}  # one a file: their number is limited
        self._files: tuple[BinaryIO, TextIO] | None = None
        self._rows = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for index in sorted(folder.glob("*.jsonl")):
                self._read(index)
        except (OSError, ValueError) as error:
            raise InputError(
                f"stored tokens in {folder} cannot be read ({one_line(error)}): remove the folder"
            ) from error

    def __call__(
        self, texts: Sequence[str], encode: Callable[[list[str]], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, L, D)`` float32 of texts, and their mask ``(B, L)`` bool, on the CPU.

        Args:
            texts: ``B`` strings.
            encode: computes both of the texts that are not stored yet.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._places]
        if missing:
            self._add(missing, *encode(missing))
        rows = [self._tokens_of(self._places[text]) for text in texts]
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], True)
        return pad_sequence(rows, batch_first=True).float(), mask

    def _read(self, index: Path) -> None:
        path = index.with_suffix(".f16")
        if not path.stat().st_size:
            return
        self._map(path)
        for line in index.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):  # else the process was stopped while it wrote
                text, start, length = json.loads(line)
                self._places[text] = _Place(path, start, length)

    def _add(self, texts: list[str], tokens: Tensor, mask: Tensor) -> None:
        data, index = self._files = self._files or self._new_files()
        lengths = mask.sum(dim=1).tolist()
        rows = tokens[mask].detach().to("cpu", torch.float16).numpy()
        data.write(rows.tobytes())
        data.flush()
        path = Path(data.name)
        self._map(path)  # again, with the rows that are new
        for text, length in zip(texts, lengths, strict=True):
            self._places[text] = _Place(path, self._rows, length)
            index.write(json.dumps([text, self._rows, length]) + "\n")
            self._rows += length
        index.flush()

    def _new_files(self) -> tuple[BinaryIO, TextIO]:
        path = self.folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        return path.with_suffix(".f16").open("wb"), path.with_suffix(".jsonl").open(
            "w", encoding="utf-8"
        )

    def _map(self, path: Path) -> None:
        self._maps[path] = np.memmap(path, np.float16, mode="r").reshape(-1, self.dim)

    def _tokens_of(self, place: _Place) -> Tensor:
        rows = slice(place.start, place.start + place.length)
        return torch.from_numpy(self._maps[place.path][rows].copy())
