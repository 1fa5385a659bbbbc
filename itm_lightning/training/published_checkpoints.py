"""Published checkpoints of SCAN, SGRAF, VSE∞ and CHAN, loaded into a Matcher of their architecture.

Their files are pickles that hold tensors and an argparse namespace; only the tensors are read, and
nothing else in them is built or run.
"""

from __future__ import annotations

import json
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.encoders import RecurrentText
from itm_lightning.errors import InputError, one_line
from itm_lightning.similarity import from_sgraf_state
from itm_lightning.training.checkpoint import load_all_but_the_objective
from itm_lightning.utils.foreign_files import read_text
from itm_lightning.utils.internals import tensor_builders

#: The authors' names, with their encoder before them → ours. All methods:
_NAMES = {
    r"text\.embed\.": "text_encoder.embedding.",
    r"text\.(?:(?:cap_)?rnn|bert)\.": "text_encoder.network.",
}
#: Methods that compare regions and words, projected linearly (SCAN, SGRAF, CHAN):
_OF_TOKENS = {
    **_NAMES,
    r"image\.fc\.": "image_projection.linear.",
    r"text\.linear\.": "text_projection.linear.",
}
#: VSE∞, which pools regions and words after it has projected them:
_OF_POOLED = {
    **_NAMES,
    r"(image|text)\.gpool\.": r"\1_encoder.pooling.",
    r"image\.fc\.": "image_encoder.projection.skip.",
    r"image\.mlp\.layers\.0\.": "image_encoder.projection.network.1.",
    r"image\.mlp\.bns\.0\.": "image_encoder.projection.network.2.",
    r"image\.mlp\.layers\.1\.": "image_encoder.projection.network.5.",
    r"text\.linear\.": "text_encoder.projection.linear.",
}
#: Without effect on any score: an unused batch normalisation, and numbers 0, 1, 2, …
_IDLE = re.compile(r"image\.mlp\.bns\.1\.|text\.bert\.embeddings\.position_ids")


def load_published(matcher: nn.Module, checkpoint: Path, vocabulary: Path | None = None) -> None:
    """Loads the authors' weights, and their vocabulary, into a Matcher.

    Args:
        matcher: of the architecture that was trained, as the configs in ``experiments/flickr30k``
            and ``experiments/coco`` describe it.
        checkpoint: the authors' file, in either of torch's formats; its entry ``model`` has the
            state of the image encoder, of the text encoder and, of SGRAF, of the similarity.
        vocabulary: the authors' JSON, where words have embeddings of their own; BERT needs none.

    Raises:
        InputError: a file cannot be read, or does not fit the Matcher; the message says where.
    """
    states = read_states(checkpoint)
    tensors = matcher_names(states)
    encoder = matcher.text_encoder
    if isinstance(encoder, RecurrentText):
        if vocabulary is None:
            raise InputError("RecurrentText needs --vocabulary: the authors' …_vocab.json")
        name = "text_encoder.embedding.weight"
        rows = tensors.get(name, torch.empty(0, 0))
        words, order = _words(vocabulary, len(rows))
        encoder.load_extra_state({"vocabulary": words})
        tensors[name] = rows[order]
    elif vocabulary is not None:
        raise InputError(f"{type(encoder).__name__} has its own words: leave --vocabulary out")
    load_all_but_the_objective(matcher, tensors, f"--checkpoint {checkpoint}")


def read_states(path: Path) -> list[dict[str, Tensor]]:
    """The state dicts under ``model`` in the authors' file.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise InputError(f"--checkpoint {path}: there is no such file")
    try:
        if _is_torchscript(path):
            raise InputError("it is a program of TorchScript, which may write files where it likes")
        # the restricted reader stands in for weights_only, which refuses the whole file
        content = torch.load(path, "cpu", pickle_module=_TENSORS_ALONE, weights_only=False)
    except Exception as error:  # torch raises whatever the broken file makes its readers raise
        raise InputError(f"--checkpoint {path} cannot be read: {one_line(error)}") from error
    model = content.get("model") if isinstance(content, dict) else None
    states = model if isinstance(model, list | tuple) else ()
    if len(states) < 2 or not all(map(_is_state_dict, states)):
        raise InputError(
            f"--checkpoint {path} has no list of state dicts under 'model', as the published "
            "checkpoints of SCAN, SGRAF, VSE∞ and CHAN have"
        )
    return [dict(state) for state in states]


def matcher_names(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the authors' encoders under a Matcher's names.

    Args:
        states: of the image encoder, the text encoder and perhaps SGRAF's similarity.

    Raises:
        InputError: a name is none of theirs.
    """
    images, texts, *others = states
    tensors = {f"image.{k}": v for k, v in _without_weight_norm(images).items()}
    tensors |= {f"text.{k}": v for k, v in texts.items()}
    names = _OF_POOLED if "image.gpool.linear.weight" in tensors else _OF_TOKENS
    ours = {_ours(k, names): v for k, v in tensors.items() if not _IDLE.match(k)}
    for state in others:  # CHAN's similarity has no parameters
        ours |= {f"similarity.{k}": v for k, v in from_sgraf_state(state).items()}
    return ours


def _ours(name: str, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        match = re.match(theirs, name)
        if match:
            return match.expand(ours) + name[match.end() :]
    raise InputError(
        f"the checkpoint's {name} is no parameter of SCAN, SGRAF, VSE∞ or CHAN with BERT, on "
        "regions: no other model can be converted"
    )


def _without_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SCAN may keep a linear map as length and direction, of the matrix as a whole."""
    plain = dict(state)
    if "fc.weight_g" in plain:
        direction = plain.pop("fc.weight_v")
        plain["fc.weight"] = plain.pop("fc.weight_g") * direction / direction.norm()
    return plain


def _words(path: Path, rows: int) -> tuple[list[str], list[int]]:
    """The words in the order of our ids, and the authors' row of each of our ids.

    Args:
        path: the authors' JSON.
        rows: of the embeddings; VSE∞ has one more than words, for ``<mask>``.
    """
    try:
        ids = json.loads(read_text(path))["word2idx"]
        words = sorted(ids, key=ids.__getitem__)
        pad, unknown = ids["<pad>"], ids["<unk>"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"--vocabulary {path} is no JSON with 'word2idx', which has <pad> and <unk>: "
            f"{one_line(error)}"
        ) from error
    if rows == len(words) + 1:
        ids = {**ids, "<mask>": len(words)}
        words.append("<mask>")
    if sorted(ids.values()) != list(range(rows)):
        raise InputError(
            f"--vocabulary {path} has {len(words)} words, the checkpoint {rows} embeddings: give "
            "the vocabulary that it was trained with"
        )
    words = [word for word in words if ids[word] not in (pad, unknown)]
    return words, [pad, unknown, *(ids[word] for word in words)]


def _is_torchscript(path: Path) -> bool:
    """Whether torch would run the file instead of reading it with the restricted reader."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # torch looks for the same
            return False
    return "constants.pkl" in torch.PyTorchFileReader(str(path)).get_all_records()


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, Tensor) for v in value.values())


class _Nothing:
    """Stands for whatever is no tensor in a pickle; it takes any content, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Takes a list's items."""

    extend = append


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors and ordered dictionaries; everything else becomes :class:`_Nothing`."""

    @override
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return tensor_builders().get(f"{module}.{name}", _Nothing)


#: What torch needs of a pickle module.
_TENSORS_ALONE: Any = SimpleNamespace(
    __name__="tensors_alone",
    Unpickler=_TensorUnpickler,
    load=lambda file, **how: _TensorUnpickler(file, **how).load(),
)
