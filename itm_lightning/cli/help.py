"""``--help`` of a command: the keys that most runs set come first, and classes go by their name."""

from __future__ import annotations

import re
from argparse import Action
from collections.abc import Iterable
from typing import Any

from jsonargparse import DefaultHelpFormatter
from typing_extensions import override

from itm_lightning.registry import KINDS, list_registered

#: The sections of keys in their order; those without a dot are the second.
_SECTIONS = "model", "data", "", "trainer", "predict", "ensemble"
#: Of Lightning's keys, those that most runs set; the others come last.
_OFTEN = {
    *("accelerator", "devices", "num_nodes", "strategy", "precision"),
    *("float32_matmul_precision", "deterministic"),
    *("max_epochs", "max_steps", "max_time", "accumulate_grad_batches", "gradient_clip_val"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "fast_dev_run"),
    *("check_val_every_n_epoch", "val_check_interval", "log_every_n_steps"),
    *("logger", "callbacks", "default_root_dir", "enable_progress_bar"),
}
#: Of keys whose help in Lightning is about what does not hold here, ours.
_HELP = {
    "ckpt_path": "A checkpoint by its path, or `last` or `best`: the newest such in the folder of "
    "runs. A fit goes on from it; other commands take the model from it.",
}
_TYPE_AND_DEFAULT = re.compile(r" \((?:required, )?type: .*\)$", re.DOTALL)
_CLASSES = re.compile(r"(?<=known subclasses: )[\w., ]+")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")  # of docstrings: :class:`~package.Name`
_ANY_CLASS = "`--KEY.help NAME` shows the arguments of a class that a key takes."


class CommandHelp(DefaultHelpFormatter):
    """Lays out the keys of a command; it is given to the parser as ``formatter_class``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._section: str | None = None  # the heading of the one that is being added
        self._sections: list[tuple[str, list[Action]]] = []

    @override
    def add_usage(
        self, usage: str | None, actions: Iterable[Action], groups: Any, prefix: str | None = None
    ) -> None:
        if prefix != "":  # which is where a subcommand asks for the name of its command
            usage, actions = "%(prog)s [--config CONFIG] [--KEY VALUE ...]", ()
        super().add_usage(usage, actions, groups, prefix)

    @override
    def start_section(self, heading: str | None) -> None:
        self._section = heading or ""

    @override
    def add_text(self, text: str | None) -> None:
        if self._section is None:
            super().add_text(text)

    @override
    def add_arguments(self, actions: Iterable[Action]) -> None:
        self._sections.append((str(self._section), list(actions)))

    @override
    def end_section(self) -> None:
        self._section = None

    @override
    def format_help(self) -> str:
        """The text: keys by their section, then those that are seldom set."""
        seldom: list[Action] = []
        for heading, actions in sorted(self._sections, key=lambda section: _rank(section[1])):
            actions = [action for action in actions if not action.dest.endswith(".help")]
            self._add(heading, [action for action in actions if not _is_seldom(action)])
            seldom += filter(_is_seldom, actions)
        if self._sections:
            self._add("seldom set", seldom)
            super().add_text(_ANY_CLASS)
        return super().format_help()

    def _add(self, heading: str, actions: list[Action]) -> None:
        super().start_section(heading)
        super().add_arguments(actions)
        super().end_section()

    @override
    def _get_help_string(self, action: Action) -> str:
        """What is said of a key; overridden as argparse's own formatters do."""
        kind = next((kind for kind in KINDS if action.dest.endswith(kind)), None)

        def names(found: re.Match[str]) -> str:
            if kind:
                return ", ".join(list_registered(kind))
            return ", ".join(path.rpartition(".")[2] for path in found[0].split(", "))

        text = _ROLE.sub(r"\1", super()._get_help_string(action)).replace("``", "`")
        ours, kinds = _HELP.get(action.dest), _TYPE_AND_DEFAULT.search(text)
        if ours:
            text = ours + (kinds[0] if kinds else "")
        return _CLASSES.sub(names, text)


def _rank(actions: list[Action]) -> int:
    section = actions[-1].dest.rpartition(".")[0] if actions else None
    return _SECTIONS.index(section) if section in _SECTIONS else len(_SECTIONS)


def _is_seldom(action: Action) -> bool:
    section, _, key = action.dest.rpartition(".")
    return (section == "trainer" and key not in _OFTEN) or key == "weights_only"
