"""The command line; :func:`main` is the console script."""

from itm_lightning.cli.console import main

__all__ = ["main"]
