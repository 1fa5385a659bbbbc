"""The command line; :func:`main` is the console script."""

from itm_lightning.cli.command import main

__all__ = ["main"]
