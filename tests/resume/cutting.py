"""Callbacks that stop a run at a moment, as nothing inside it would."""

import os
import signal
import threading

from pytorch_lightning import Callback
from typing_extensions import override


class CutError(Exception):
    """Stands for whatever ends a process."""


class Cut(Callback):
    """Raises CutError in the ``nth`` call of a hook.

    Args:
        hook: the name of any hook of callbacks.
        nth: counted from 1.
    """

    def __init__(self, hook: str, nth: int) -> None:
        self.left = nth

        def count(*_, **__):
            self.left -= 1
            if self.left == 0:
                self.cut()

        setattr(self, hook, count)

    def cut(self):
        raise CutError

    @property
    @override
    def state_key(self) -> str:
        return "cut"


class Signalled(Cut):
    """Sends the process SIGTERM instead."""

    @override
    def cut(self):
        os.kill(os.getpid(), signal.SIGTERM)


class Killed(Callback):
    """Kills the process and all it has started, so many batches and seconds from the start.

    Args:
        variable: of the environment, which says ``<batches> <seconds>``; without it, no one dies.
    """

    def __init__(self, variable: str) -> None:
        batches, seconds = os.environ.get(variable, "0 0").split()
        self.left, self.seconds = int(batches), float(seconds)

    @override
    def on_train_batch_start(self, *_):
        self.left -= 1
        if self.left == 0:
            threading.Timer(self.seconds, os.killpg, (os.getpgid(0), signal.SIGKILL)).start()
