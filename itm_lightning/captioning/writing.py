"""write_captions: many candidates for each image, of which the best is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from itm_lightning.captioning.search import beam_search, sample
from itm_lightning.errors import InputError
from itm_lightning.matcher import Matcher
from itm_lightning.objectives import SCNLM
from itm_lightning.objectives.word_tags import PADDING_TAG
from itm_lightning.types import Features
from itm_lightning.utils.progress_bars import progress_bar


@dataclass(frozen=True)
class Caption:
    """A text written for an image.

    Attributes:
        text: the words, in lower case.
        log_prob: the sum of the words' log probabilities, given the image and a structure.
        similarity: the head's score of image and text.
        score: what the candidates were compared by.
    """

    text: str
    log_prob: float
    similarity: float
    score: float


@torch.no_grad()
def write_captions(
    matcher: Matcher,
    images: Sequence[Any] | Features,
    *,
    method: Literal["beam", "sample"] = "beam",
    structures: int = 100,
    width: int = 3,
    temperature: float = 1.0,
    similarity_weight: float = 0.95,
    length_power: float = 0.0,
    seed: int = 0,
) -> list[Caption]:
    """Writes a caption of each image, after Kiros et al. (2014, arXiv 1411.2539).

    The language model (:class:`~itm_lightning.objectives.SCNLM`) writes candidates from the image's
    embedding, along structures drawn from the training captions; the candidate with the highest
    ``(1 - w) · log P / length^power + w · similarity`` is kept.

    Args:
        matcher: a Matcher with the objective SCNLM, alone or in a WeightedSum; of a checkpoint, as
            vocabulary and structures are in it.
        images: a list of paths, PIL images, arrays or tensors; or features of images.
        method: how words are chosen, by beam search or by sampling.
        structures: how many structures are tried for each image, the same for all.
        width: the width of the beam, or the samples, for each structure; all are candidates.
        temperature: of sampling.
        similarity_weight: ``w``, 0 to 1.
        length_power: 0 compares sums of log probabilities, 1 their means.
        seed: of the structures and samples.

    Returns:
        One caption an image.

    Raises:
        InputError: the Matcher has no language model, or an argument is out of its range.
    """
    model = _language_model(matcher)
    assert model.vocabulary is not None
    if method not in ("beam", "sample") or not 0 <= similarity_weight <= 1:
        raise InputError(
            f"write_captions: method is {method!r} and similarity_weight {similarity_weight}; give "
            '"beam" or "sample", and a weight of 0 to 1'
        )
    generator = torch.Generator().manual_seed(seed)
    tags = model.draw_structures(structures, generator).to(matcher.device)
    longest = (tags != PADDING_TAG).sum(dim=1).max()
    captions = []
    for row in progress_bar(range(len(images)), desc="captions"):
        encoded = matcher.encode_images(images[row : row + 1])
        next_word = model.next_word(model.content(encoded).expand(len(tags), -1), tags)
        size = len(tags), width, int(longest)
        if method == "beam":
            found = beam_search(next_word, *size, length_power)
        else:
            found = sample(next_word, *size, generator, temperature)
        ended = found.log_probs > -torch.inf
        texts = [model.vocabulary.decode(ids) for ids in found.ids[ended].tolist()]
        similarities = matcher.similarity(encoded, matcher.encode_texts(texts))[0].cpu()
        likely = found.normalised(length_power)[ended]
        scores = torch.lerp(likely, similarities.to(likely), similarity_weight)
        best = int(scores.argmax())
        values = (each[best].item() for each in (found.log_probs[ended], similarities, scores))
        captions.append(Caption(texts[best], *values))
    return captions


def _language_model(matcher: Matcher) -> SCNLM:
    found = [module for module in matcher.objective.modules() if isinstance(module, SCNLM)]
    if not found or found[0].vocabulary is None:
        raise InputError(
            "write_captions: the Matcher has no language model: train it with the objective SCNLM, "
            "in a WeightedSum beside a ranking loss"
        )
    return found[0]
