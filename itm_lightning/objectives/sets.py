"""What objectives on sets of tokens share."""

from __future__ import annotations

from torch import Tensor

from itm_lightning.errors import InputError
from itm_lightning.types import Features, unit_tokens


def unit_sets(side: Features, objective: object) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, L, D)`` of length 1 in float32 at least, zero at padding; and their mask.

    Raises:
        InputError: there are none.
    """
    if side.tokens is None or side.mask is None:
        raise InputError(
            f"{type(objective).__name__} reads tokens, and the head keeps pooled vectors only: "
            "use it with a head that reads tokens, such as SmoothChamfer"
        )
    return unit_tokens(side.tokens, side.mask), side.mask
