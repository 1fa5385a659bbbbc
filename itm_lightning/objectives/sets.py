"""What objectives on sets of tokens share."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.precision import at_least_float32
from itm_lightning.types import Features


def unit_tokens(side: Features, objective: object) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, L, D)`` of length 1 in float32 at least, zero at padding; and their mask.

    Raises:
        InputError: there are none.
    """
    if side.tokens is None or side.mask is None:
        raise InputError(
            f"{type(objective).__name__} reads tokens, and the head keeps pooled vectors only: "
            "use it with a head that reads tokens, such as SmoothChamfer"
        )
    # filled and not multiplied: padding may hold anything, even NaN
    tokens = side.tokens.masked_fill(~side.mask.unsqueeze(-1), 0)
    return F.normalize(at_least_float32(tokens), dim=-1), side.mask
