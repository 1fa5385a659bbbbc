"""Which files of the package a training step and the scoring of a split enter.

``python -m tests.entered_files`` prints them.
"""

import sys
import tempfile
import threading
from pathlib import Path

import pytorch_lightning as pl

import itm_lightning
from itm_lightning import ITMDataModule, Matcher
from itm_lightning.data import Scenes
from itm_lightning.encoders import RecurrentText, TorchvisionCNN
from itm_lightning.objectives import InfoNCE
from itm_lightning.similarity import Cosine, CrossAttention

PACKAGE = Path(itm_lightning.__file__).parent
HEADS = {"Cosine": Cosine, "CrossAttention": CrossAttention}


class EnteredFiles(pl.Callback):
    """Notes the files of which a function is called, on this thread and those it starts.

    Attributes:
        step: within ``training_step`` and its backward pass.
        scoring: within ``on_validation_epoch_end``.
    """

    def __init__(self):
        self.step, self.scoring = set(), set()

    def on_train_batch_start(self, *_):
        _trace_into(self.step)

    def on_after_backward(self, *_):
        _trace_into(None)

    def on_validation_epoch_end(self, *_):  # the Matcher's own hook of that name comes next
        _trace_into(self.scoring)

    def on_validation_end(self, *_):
        _trace_into(None)


def _trace_into(files):
    def note(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            files.add(path.relative_to(PACKAGE).as_posix())

    trace = None if files is None else note
    sys.settrace(trace)  # called at every call of a function, as note asks for no more events
    threading.settrace(trace)


def entered_files(head):
    """Fits one batch of two images on one process, and scores two others."""
    entered = EnteredFiles()
    images = TorchvisionCNN(name="squeezenet1_1", image_size=64)
    texts = RecurrentText(hidden=16, word_dim=16)
    matcher = Matcher(images, texts, HEADS[head](), InfoNCE(), dim=16)
    source = Scenes(train=2, val=2, test=2, pairs=0)
    before = sys.gettrace()  # a debugger's, or one that measures coverage
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[entered],
        )
        trainer.fit(matcher, datamodule=ITMDataModule(source, batch_size=10))
    sys.settrace(before)
    threading.settrace(before)
    return entered


if __name__ == "__main__":
    for name in HEADS:
        found = entered_files(name)
        for what, files in (("training step", found.step), ("scoring", found.scoring)):
            print(f"{name}, {what}: {len(files)} files", *sorted(files), sep="\n    ")
