"""Tiny models of transformers."""

from tests.encoders.conftest import folders

__all__ = ["folders"]
