"""How much of a score comes from each place of the image and each word of the text.

Each function takes a Matcher, an image as it sees it and a text, and returns :class:`Parts`: a
number for every token of the image and every token of the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from itm_lightning.encoders import LinearProjection, NoProjection
from itm_lightning.errors import InputError, one_line
from itm_lightning.explain.inputs import Seen
from itm_lightning.explain.words import TextInputs
from itm_lightning.matcher import Matcher
from itm_lightning.pooling import MeanPooling
from itm_lightning.similarity import Additive, Aligning, Bilinear, Cosine, DotProduct, ScaledCosine
from itm_lightning.similarity.base import PooledSimilarity, Similarity
from itm_lightning.types import Features

TOLERANCE = 1e-3
"""How far second-order attributions and their residue may be from a score of at most 1."""

_STEPS = (16, 32, 64, 128, 256)
_CHUNK = 8  # places at a time


@dataclass(frozen=True)
class Parts:
    """What a method found for one pair.

    Attributes:
        values: ``(R, L)``, of every token of the image and every token of the text.
        residue: what the values leave out of the score; ``None`` where they are no parts of it.
        meaning: what they are, in a sentence.
    """

    values: Tensor
    residue: float | None
    meaning: str


def projected(matcher: Matcher, images: Features, texts: Features) -> tuple[Features, Features]:
    """Both encoders' features as the head compares them."""
    return matcher.project(images, "image"), matcher.project(texts, "text")


# -- sums by construction ---------------------------------------------------------------------


@torch.no_grad()
def contributions(matcher: Matcher, image: Seen, text: Features) -> Parts:
    """The head's own parts, see :class:`~itm_lightning.similarity.Additive`; or of mean pooling.

    Args:
        matcher: in evaluation mode.
        image: the image.
        text: the text encoder's features, one row.

    Raises:
        InputError: the head's score is no sum of parts.
    """
    head = matcher.similarity
    pair = projected(matcher, image.encoded, text)
    if isinstance(head, Additive):
        values, left_out = head.contributions(*pair)[0, 0], head.left_out
    else:
        values, left_out = _of_mean_pooling(matcher, image.encoded, text)
    residue = float(head(*pair)) - float(values.sum())
    ending = "add up to its score" if left_out is None else f"leave out of its score {left_out}"
    return Parts(values, residue, f"The parts of {type(head).__name__} {ending}.")


def _of_mean_pooling(
    matcher: Matcher, image: Features, text: Features
) -> tuple[Tensor, str | None]:
    """``⟨x_r / R, y_l / L⟩ / (‖x̄‖ ‖ȳ‖)``, the parts of a cosine of two means, and what they lack.

    The lengths of the means are held fixed. The bias of a linear projection is shared by all
    tokens.
    """
    head = matcher.similarity
    if not isinstance(head, Cosine | ScaledCosine | Bilinear | DotProduct):
        raise InputError(
            f"the score of {type(head).__name__} is no sum of parts: use --method auto"
        )
    sides = (
        ("image", matcher.image_encoder, matcher.image_projection, image, head.embed_images),
        ("text", matcher.text_encoder, matcher.text_projection, text, head.embed_texts),
    )
    embedded = []
    for name, encoder, projection, features, embed in sides:
        both = projection, matcher.shared_projection
        linear = all(isinstance(each, LinearProjection | NoProjection) for each in both)
        if not (isinstance(encoder.pooling, MeanPooling) and linear and features.mask is not None):
            raise InputError(
                f"{type(head).__name__} has parts where both sides are means of tokens, projected "
                f"by linear maps, and the {name}'s vector is none: use --method second_order"
            )
        whole = matcher.shared_projection(projection(features))
        assert whole.tokens is not None
        tokens = whole.tokens[features.mask]
        vectors = embed(Features.from_pooled(tokens))
        if not isinstance(head, DotProduct):  # not each token's own length, but the mean's
            vectors = vectors * (tokens.norm(dim=1, keepdim=True) / _pooled(whole).norm())
        embedded.append(vectors / len(tokens))
    products = embedded[0] @ embedded[1].T
    bias = head.score_of_inner_product(products.new_zeros(()))
    return head.score_of_inner_product(products) - bias, "its bias" if float(bias) else None


@torch.no_grad()
def alignment(matcher: Matcher, image: Seen, text: Features) -> Parts:
    """The head's weights, see :class:`~itm_lightning.similarity.Aligning`; no parts of the score.

    Args:
        matcher: in evaluation mode.
        image: the image.
        text: the text encoder's features, one row.

    Raises:
        InputError: the head has none.
    """
    head = matcher.similarity
    if not isinstance(head, Aligning):
        raise InputError(f"{type(head).__name__} aligns no words with places: use --method auto")
    weights = head.alignment(*projected(matcher, image.encoded, text))[0, 0]
    name = type(head).__name__
    meaning = (
        f"The weights by which {name} aligns words and places; they are no parts of the score."
    )
    return Parts(weights, None, meaning)


# -- second order -----------------------------------------------------------------------------


def second_order(matcher: Matcher, image: Seen, text: TextInputs) -> Parts:
    """``(a - a₀)_r (b - b₀)_l ∫∫ ∂²s / ∂a_r ∂b_l`` between an image's tokens and a text's inputs.

    Möller et al.: "Explaining Dual-Encoder Models: Second-Order Attributions" (exCLIP, TMLR 2025):
    the score ``s`` is differentiated by both, along straight lines from references ``a₀`` and
    ``b₀`` to ``a`` and ``b``. Where it is an inner product ``f(a) · g(b)``, that is the product of
    the two mean Jacobians, theirs; here it is any head of pooled vectors that can be differentiated
    twice. The parts add up to ``s(a, b) - s(a₀, b) - s(a, b₀) + s(a₀, b₀)``: what the references
    score is the residue.

    ``a`` are the image encoder's tokens, and ``a₀`` those of an image of the mean colour (zeros
    where there are only regions); ``b`` are the text's inputs, and ``b₀`` the same with all words
    hidden, see :class:`~itm_lightning.explain.words.TextInputs`. So pooling, projections, head and
    the whole text encoder are explained, but not what the image encoder's tokens look at. The
    integrals are by Gauss and Legendre, with 16 nodes and up to 256, until parts and residue are
    within :data:`TOLERANCE` of the score; what is missing even then, the meaning says.

    Costs a backward pass through the text encoder for each token of the image.

    Args:
        matcher: in evaluation mode.
        image: the image.
        text: the text.

    Raises:
        InputError: the head reads tokens, or cannot be differentiated twice.
    """
    name = type(matcher.similarity).__name__
    if not isinstance(matcher.similarity, PooledSimilarity):
        raise InputError(f"second_order is for heads of pooled vectors, and {name} is none: auto")
    reference = _empty(matcher, image)
    with torch.no_grad():
        left = _image_vectors(matcher, image, torch.cat([image.tokens, reference]))
        right = _text_vectors(matcher, text.encode(torch.stack([text.values, text.hidden])))
        scores = matcher.similarity(Features.from_pooled(left), Features.from_pooled(right))
    (score, without_words), (without_image, without_both) = scores.tolist()
    residue = without_image + without_words - without_both
    for steps in _STEPS:
        values = _integrated(matcher, image, reference, text, steps)
        gap = score - float(values.sum()) - residue
        if abs(gap) < TOLERANCE / 2 * max(1.0, abs(score)):
            break
    meaning = (
        "Second-order attributions: they and the residue, which an image of the mean colour and a "
        "text without words score, add up to the score."
    )
    if abs(gap) > TOLERANCE * max(1.0, abs(score)):
        meaning += f" Here {gap:.1g} is missing: the head has kinks or steps."
    return Parts(values, residue, meaning)


def _empty(matcher: Matcher, image: Seen) -> Tensor:
    """Tokens ``(1, R, D)`` of an image of the mean colour; zeros where there are only regions."""
    if isinstance(image.inputs, Features):
        return torch.zeros_like(image.tokens)
    with torch.no_grad():  # float pixels are normalised already, and the mean is zero
        black = torch.zeros(image.inputs.shape, device=matcher.device)
        return matcher.image_encoder(black).tokens


def _image_vectors(matcher: Matcher, image: Seen, tokens: Tensor) -> Tensor:
    """Projected vectors ``(N, E)`` of tokens ``(N, R, D)``."""
    pooled = matcher.image_encoder.pooling(tokens, image.mask.expand(len(tokens), -1))
    features = matcher.image_projection(Features.from_pooled(pooled))
    return _pooled(matcher.shared_projection(features))


def _text_vectors(matcher: Matcher, encoded: Features) -> Tensor:
    selected = matcher.similarity.select(encoded)
    return _pooled(matcher.shared_projection(matcher.text_projection(selected)))


def _pooled(features: Features) -> Tensor:
    assert features.pooled is not None  # the projections keep what select gave
    return features.pooled


def _integrated(
    matcher: Matcher, image: Seen, reference: Tensor, text: TextInputs, steps: int
) -> Tensor:
    """The parts ``(R, L)``.

    Every token of image and text has a gate of its own, 0 at the reference and 1 at the pair; the
    parts are the mixed second derivatives by two gates, in the mean over both lines.
    """
    nodes, weights = _gauss_legendre(steps, reference)
    difference = image.tokens.detach() - reference
    gates = nodes[:, None].repeat(1, reference.shape[1])

    def vectors(gates: Tensor) -> Tensor:
        return _image_vectors(matcher, image, reference + gates[..., None] * difference)

    def by_gate(which: Tensor) -> Tensor:
        return torch.func.jvp(vectors, (gates,), (which.expand_as(gates),))[1]

    with torch.no_grad():
        left = vectors(gates)
        places = torch.eye(reference.shape[1]).to(reference)
        by_place = torch.func.vmap(by_gate, chunk_size=_CHUNK)(places)  # (R, N, E)
    text_gates = nodes[:, None].repeat(1, len(text.values)).requires_grad_()
    inputs = text.hidden + text_gates[..., None] * (text.values - text.hidden)
    # cuDNN's recurrent networks have a backward pass in training mode only
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        right = _text_vectors(matcher, text.encode(inputs))
        slopes = _slopes(matcher.similarity, left, by_place, right.detach(), weights)
        rows = [
            torch.autograd.grad(right, text_gates, slope, retain_graph=True)[0].sum(dim=0)
            for slope in slopes
        ]
    return torch.stack(rows)


def _slopes(
    head: Similarity, left: Tensor, by_place: Tensor, right: Tensor, weights: Tensor
) -> Tensor:
    """``(R, N, E)``: for each place, the derivative by the texts' vectors of the change in score.

    Args:
        head: of pooled vectors.
        left: the images' vectors ``(N, E)``.
        by_place: their derivative ``(R, N, E)`` by the gate of each place.
        right: the texts' vectors ``(N, E')``.
        weights: of the nodes, ``(N,)``.

    Raises:
        InputError: the head cannot be differentiated twice.
    """
    left, right = left.requires_grad_(), right.requires_grad_()
    scores = head(Features.from_pooled(left), Features.from_pooled(right))
    try:
        (slope,) = torch.autograd.grad(weights @ scores @ weights, left, create_graph=True)
        changes = torch.einsum("rne,ne->r", by_place, slope)
        return torch.stack(
            [torch.autograd.grad(change, right, retain_graph=True)[0] for change in changes]
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InputError(
            f"{type(head).__name__} cannot be differentiated twice ({one_line(error)}): use "
            "--method occlusion"
        ) from error


def _gauss_legendre(steps: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the integral from 0 to 1.

    They are denser at 0 (``x = u⁴``): a reference is often a short vector, and what normalises it
    turns it fast.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    u = (nodes + 1) / 2
    return torch.from_numpy(u**4).to(like), torch.from_numpy(2 * u**3 * weights).to(like)
