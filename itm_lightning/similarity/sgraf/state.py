"""The parameters of the authors' SGRAF under the names used here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from itm_lightning.errors import InputError

_NAMES = {
    r"v_global_w\.embedding_local\.0": "image_overall.local",
    r"v_global_w\.embedding_local\.1": "image_overall.local_norm",
    r"v_global_w\.embedding_global\.0": "image_overall.overall",
    r"v_global_w\.embedding_global\.1": "image_overall.overall_norm",
    r"v_global_w\.embedding_common\.0": "image_overall.score",
    r"t_global_w\.embedding_local\.0": "text_overall.local",
    r"t_global_w\.embedding_global\.0": "text_overall.overall",
    r"t_global_w\.embedding_common\.0": "text_overall.score",
    r"sim_tranloc_w": "local_similarity",
    r"sim_tranglo_w": "overall_similarity",
    r"sim_eval_w": "evaluate",
    r"SGR_module\.(\d+)\.graph_query_w": r"reasoning.\1.query",
    r"SGR_module\.(\d+)\.graph_key_w": r"reasoning.\1.key",
    r"SGR_module\.(\d+)\.sim_graph_w": r"reasoning.\1.output",
    r"SAF_module\.attn_sim_w": "significance",
    r"SAF_module\.bn": "significance_norm",
}
# Without effect on any score: a bias that drops out of a softmax, and an unused counter.
_IDLE = ("graph_key_w.bias", "num_batches_tracked")


def from_sgraf_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict for :class:`SGR` or :class:`SAF`, from that of the authors' similarity module.

    ======================================  ================================================
    the authors' name                       ours
    ======================================  ================================================
    ``{v,t}_global_w.embedding_local.0``    ``{image,text}_overall.local``
    ``{v,t}_global_w.embedding_global.0``   ``{image,text}_overall.overall``
    ``{v,t}_global_w.embedding_common.0``   ``{image,text}_overall.score``
    ``v_global_w.embedding_local.1``        ``image_overall.local_norm``
    ``v_global_w.embedding_global.1``       ``image_overall.overall_norm``
    ``sim_tranloc_w``, ``sim_tranglo_w``    ``local_similarity``, ``overall_similarity``
    ``sim_eval_w``                          ``evaluate``
    ``SGR_module.i.graph_{query,key}_w``    ``reasoning.i.{query,key}``
    ``SGR_module.i.sim_graph_w``            ``reasoning.i.output``
    ``SAF_module.attn_sim_w``, ``….bn``     ``significance``, ``significance_norm``
    ======================================  ================================================

    ``graph_key_w.bias`` and ``num_batches_tracked`` are left out: no score depends on them.

    Args:
        state: the ``state_dict`` of the authors' ``EncoderSimilarity``.

    Raises:
        InputError: a name is not one of the authors'.
    """
    return {_ours(name): value for name, value in state.items() if not name.endswith(_IDLE)}


def _ours(name: str) -> str:
    module, _, parameter = name.rpartition(".")
    for theirs, ours in _NAMES.items():
        match = re.fullmatch(theirs, module)
        if match:
            return f"{match.expand(ours)}.{parameter}"
    raise InputError(f"{name!r} is no parameter of SGRAF's similarity module (EncoderSimilarity)")
