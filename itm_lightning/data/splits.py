"""What datasets call their splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from itm_lightning.errors import InputError

# COCO's Karpathy split parts the photos that others train on into "train" and "restval".
USUAL = {"train": ("train", "restval"), "val": ("val", "validation", "dev"), "test": ("test",)}


class SplitNames:
    """Which of a dataset's own names count as ``"train"``, ``"val"`` and ``"test"``.

    Args:
        given: names that replace the usual ones, by split.

    Raises:
        InputError: ``given`` has a key that is no split.
    """

    def __init__(self, given: Mapping[str, Sequence[str]] | None = None) -> None:
        unknown = sorted(set(given or {}) - set(USUAL))
        if unknown:
            raise InputError(
                f"data.source.splits names {', '.join(unknown)}; it takes {', '.join(USUAL)}"
            )
        self._names = {**USUAL, **(given or {})}

    def __getitem__(self, split: str) -> Sequence[str]:
        return self._names[split]

    def check(self, found: Iterable[str], where: str) -> None:
        """Raises InputError where none of the names ``found`` in a dataset counts as a split."""
        found = dict.fromkeys(map(str, found))
        if found and not any(name in names for names in self._names.values() for name in found):
            raise InputError(
                f"{where} has the splits {', '.join(list(found)[:10])}; "
                "data.source.splits says which count as train, val and test"
            )
