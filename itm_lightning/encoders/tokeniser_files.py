"""A tokeniser of transformers as plain text, and back."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# a byte a character: any file, SentencePiece's binary too, survives as a str
ENCODING = "latin-1"


def read_tokeniser(tokeniser: Any) -> dict[str, str]:
    """The tokeniser's files: their names and contents."""
    with TemporaryDirectory() as folder:
        tokeniser.save_pretrained(folder)
        return {
            path.name: path.read_bytes().decode(ENCODING) for path in sorted(Path(folder).iterdir())
        }


def rebuild_tokeniser(files: dict[str, str], config: Any) -> Any:
    """The tokeniser that :func:`read_tokeniser` read.

    Args:
        files: names and contents.
        config: the configuration of the tokeniser's model.
    """
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content.encode(ENCODING))
        return AutoTokenizer.from_pretrained(folder, config=config)
