"""Text and YAML that people write: read as they meant it, or refused by file and line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml
from typing_extensions import override
from yaml.constructor import ConstructorError

from itm_lightning.errors import InputError, one_line

_MOST_LEVELS = 40  # of lists and mappings within one another
_MOST_VALUES = 100_000  # of a file, counted as often as its aliases repeat them
_PLAIN = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
}
_TOO_DEEP = f"more than {_MOST_LEVELS} lists and mappings within one another"


def read_utf8(path: Path) -> str:
    """The text of a file.

    Raises:
        InputError: there is no such file, or it is not UTF-8; the message says how to convert it.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path} cannot be read: {one_line(error)}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        encoding = "UTF-16" if wide else "WINDOWS-1252"
        raise InputError(
            f"{path}, line {line}: this is not UTF-8; convert the file, as by "
            f"`iconv -f {encoding} -t UTF-8` where it is {encoding}"
        ) from error


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        InputError: see :func:`read_utf8` and :func:`parse_yaml`.
    """
    return parse_yaml(read_utf8(path), str(path))


def parse_yaml(text: str, name: str) -> Any:
    """The plain values of YAML, in which every key of a mapping stands once.

    Args:
        text: the YAML.
        name: of the file, for messages.

    Raises:
        InputError: it is no YAML, gives a key twice, or becomes too deep or, by its aliases, too
            large; the message names file and line.
    """
    if found := yaml.reader.Reader.NON_PRINTABLE.search(text):
        _refuse(name, text.count("\n", 0, found.start()), f"the character {found[0]!r}")
    loader = _Loader(text)
    try:
        _check_levels(yaml.parse(text, _Loader), name)
        root = loader.get_single_node()
        if root is None:
            return None
        _extent(root, {}, name)
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        _refuse(name, mark.line if mark else 0, f"this is no YAML ({problem})")


class _Loader(yaml.SafeLoader):
    """Reads dates as text, and says where a number cannot be read."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    @override
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _PLAIN:
            raise ConstructorError(None, None, f"the tag {node.tag}", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:  # of a tag: "!!int", "!!bool x"; or 4,300 digits
            raise ConstructorError(None, None, one_line(error), node.start_mark) from error


def _check_levels(events: Iterable[yaml.Event], name: str) -> None:
    """Refuses YAML that is too deep, before readers that call themselves for each level."""
    level = 0
    for event in events:
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > _MOST_LEVELS:
            _refuse(name, event.start_mark.line if event.start_mark else 0, _TOO_DEEP)


def _extent(node: yaml.Node, known: dict[yaml.Node, tuple[int, int]], name: str) -> tuple[int, int]:
    """The values and the levels of a node, whose aliases count as what they repeat.

    Args:
        node: its mappings must have every key once.
        known: of nodes that have been counted; (0, 0) of those that are being counted.
        name: of the file.
    """
    line = node.start_mark.line
    if node in known:
        if known[node] == (0, 0):
            _refuse(name, line, "an alias repeats what it stands in")
        return known[node]
    known[node] = 0, 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        _check_keys([key for key, _ in node.value], name)
        parts = [part for entry in node.value for part in entry]
    extents = [_extent(part, known, name) for part in parts]
    size = 1 + sum(size for size, _ in extents)
    levels = 1 + max((levels for _, levels in extents), default=0)
    if size > _MOST_VALUES:
        _refuse(name, line, f"more than {_MOST_VALUES:,} values, with those that aliases repeat")
    if levels > _MOST_LEVELS + 1:
        _refuse(name, line, _TOO_DEEP)
    known[node] = size, levels
    return size, levels


def _check_keys(keys: Iterable[yaml.Node], name: str) -> None:
    lines: dict[str, int] = {}
    for key in keys:
        line = key.start_mark.line
        if not isinstance(key, yaml.ScalarNode):
            _refuse(name, line, "a key that is a list or mapping")
        if key.value in lines:
            first = lines[key.value] + 1
            _refuse(name, line, f"the key {key.value!r} is given twice, first in line {first}")
        lines[key.value] = line


def _refuse(name: str, line: int, what: str) -> NoReturn:
    raise InputError(f"{name}, line {line + 1}: {what}: correct it there")
