"""What is varied: runs that differ in their seed only are one variant, and each has a label."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from itm_lightning.compare.runs import Outcome, Variant
from itm_lightning.errors import InputError
from itm_lightning.resume.run import flat

#: What a comparison is called after, where several parts differ; the others come with it.
_FIRST = ("similarity", "objective", "image_encoder", "text_encoder")
#: What decides what is learnt; all else says how and where a run was made, or what is scored.
_OF_TRAINING = re.compile(
    r"model\.|data\.(?!num_workers$)"
    r"|trainer\.(max_|min_|gradient_clip|accumulate|precision|limit_train|overfit)"
)
#: Where something lies; that it is the same data is checked by what is in it.
_OF_A_PLACE = re.compile(r"model\.text_encoder\.init_args\.store$")
_FEATURES = "data.source.init_args.root"  # of Precomputed: its encoder stands in the config
_MISSING = object()


def variants_of(outcomes: Sequence[Outcome]) -> tuple[str, tuple[Variant, ...], list[str]]:
    """Groups runs that differ in their seed only.

    Where the head differs and other settings with it, the comparison is one of heads: the factor
    is the first of similarity, objective and encoders that differs, and further ones only where
    the labels would be equal without them.

    Returns:
        The factor; the variants, in the order of their first runs, each in the order of its seeds;
        and a note on each other setting that differs.

    Raises:
        InputError: two runs are the same, the seed included.
    """
    configs = [flat(outcome.config) for outcome in outcomes]
    precomputed = all(
        str(c.get("data.source.class_path")).endswith(".Precomputed") for c in configs
    )
    varied = [
        key
        for key in differing(configs)
        if _OF_TRAINING.match(key)
        and not _OF_A_PLACE.match(key)
        and not (precomputed and key == _FEATURES)
    ]
    groups: dict[str, list[int]] = defaultdict(list)
    for i, config in enumerate(configs):
        groups[json.dumps([config.get(key) for key in varied])].append(i)
    members = list(groups.values())
    _check_seeds(outcomes, members)
    firsts = [members_of[0] for members_of in members]
    parts = _ordered({_part(key) for key in varied}) or ["similarity"]
    used = next(
        parts[:n]
        for n in range(1, len(parts) + 1)
        if n == len(parts) or len(set(_labels(outcomes, firsts, parts[:n]))) == len(firsts)
    )
    labels = _labels(outcomes, firsts, used)
    variants = tuple(
        Variant(label, tuple(sorted((outcomes[i] for i in group), key=lambda run: run.seed)))
        for label, group in zip(labels, members, strict=True)
    )
    notes = [
        f"{key}: "
        + ", ".join(
            f"{label} {configs[i].get(key)}" for label, i in zip(labels, firsts, strict=True)
        )
        for key in varied
        if _part(key) not in used
    ]
    return ", ".join(used), variants, notes


def labels_of(parts: Sequence[Any]) -> list[str]:
    """A label for each part of a config, distinct for distinct parts.

    Args:
        parts: class names, ``{class_path, init_args}`` or plain values.

    Returns:
        The class's name; where several share it, with the arguments in which they differ, such as
        ``CrossAttention(direction=i2t)``.
    """
    paths = [_class_path(part) for part in parts]
    last = [path.rpartition(".")[2] for path in paths]
    names = [
        name if len({p for p in paths if p.rpartition(".")[2] == name}) == 1 else path
        for name, path in zip(last, paths, strict=True)
    ]
    arguments = [flat(part.get("init_args") or {}) if _is_class(part) else {} for part in parts]
    labels = []
    for name, own in zip(names, arguments, strict=True):
        alike = [others for other, others in zip(names, arguments, strict=True) if other == name]
        labels.append(_with_arguments(name, own, alike))
    return labels


def _with_arguments(name: str, own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    """The name with as many of the arguments as tell it from all others of its class."""
    keys: list[str] = []
    others = [each for each in alike if each is not own]
    for key in differing(alike):
        if not any(all(each.get(k) == own.get(k) for k in keys) for each in others):
            break
        keys.append(key)
    shown = {}
    for key in keys:
        values = {str(each[key]) for each in alike if each.get(key) is not None}
        if own.get(key) is not None:
            tells_apart = len(set(map(_short, values))) == len(values)
            shown[key] = _short(own[key]) if tells_apart else str(own[key])
    return _called(name, shown)


def full_label(part: Any) -> str:
    """A part's class as it was given, with every argument that was given."""
    arguments = flat(part.get("init_args") or {}) if _is_class(part) else {}
    return _called(_class_path(part), {key: str(value) for key, value in arguments.items()})


def _called(name: str, arguments: Mapping[str, str]) -> str:
    pairs = [f"{key.removesuffix('.class_path')}={value}" for key, value in arguments.items()]
    return f"{name}({', '.join(pairs)})" if pairs else name


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of flat configs whose values differ.

    A key that one config lacks differs where another has more than an empty value for it: a newer
    version may have added it.
    """
    keys = dict.fromkeys(key for config in configs for key in config)
    found = []
    for key in keys:
        values = [config.get(key, _MISSING) for config in configs]
        there = [value for value in values if value is not _MISSING]
        same = all(value == there[0] for value in there)
        if not same or (len(there) < len(values) and there[0]):
            found.append(key)
    return found


def _check_seeds(outcomes: Sequence[Outcome], groups: Sequence[Sequence[int]]) -> None:
    for group in groups:
        seen: dict[int, Outcome] = {}
        for outcome in (outcomes[i] for i in group):
            earlier = seen.setdefault(outcome.seed, outcome)
            if earlier is not outcome:
                raise InputError(
                    f"{earlier.folder} and {outcome.folder} are the same run twice, the seed "
                    f"{outcome.seed} included: name one of them"
                )


def _part(key: str) -> str:
    """What a key belongs to: a part of the model such as ``similarity``, or the key itself."""
    section, *rest = key.split(".")
    if section == "model" and rest:
        return rest[0]
    return ".".join([section, *rest[:1]])


def _ordered(parts: set[str]) -> list[str]:
    return sorted(parts, key=lambda part: (part not in _FIRST, [*_FIRST, part].index(part), part))


def _labels(outcomes: Sequence[Outcome], firsts: Sequence[int], parts: Sequence[str]) -> list[str]:
    configs = [outcomes[i].config for i in firsts]
    columns = [_labels_by(part, [_value(config, part) for config in configs]) for part in parts]
    return [", ".join(labels) for labels in zip(*columns, strict=True)]


def _value(config: Mapping[str, Any], part: str) -> Any:
    section, _, name = part.rpartition(".")
    return (config.get(section or "model") or {}).get(name)


def _labels_by(part: str, values: Sequence[Any]) -> list[str]:
    if any(map(_is_class, values)):
        return labels_of(values)
    return [f"{part.rpartition('.')[2]}={value}" for value in values]


def _is_class(part: Any) -> bool:
    return isinstance(part, Mapping) and "class_path" in part


def _class_path(part: Any) -> str:
    return str(part["class_path"] if _is_class(part) else part)


def _short(value: Any) -> str:
    """A class's or file's own name; any other value in full."""
    text = str(value)
    return (
        text.rpartition(".")[2] if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", text) else Path(text).name
    )
