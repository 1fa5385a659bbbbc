"""SCAN (Lee et al., ECCV 2018, section 3.1), caption by caption."""

import torch
from torch.nn import functional as F


def scan_scores(images, texts, lengths, direction="t2i", temperature=9.0, lse_temperature=6.0):
    """Scores (N, M) with clipped, l2-normalised attention and LogSumExp.

    Unit tokens: images (N, R, D), captions (M, L, D) of which lengths (M,) are real.
    """
    columns = []
    for text, length in zip(texts, lengths.tolist(), strict=True):
        words = text[:length].expand(len(images), -1, -1)
        queries, context = (words, images) if direction == "t2i" else (images, words)
        attended = attended_vectors(queries, context, temperature)
        cosines = F.cosine_similarity(queries, attended, dim=-1)  # (N, queries)
        columns.append((cosines * lse_temperature).exp().sum(dim=1).log() / lse_temperature)
    return torch.stack(columns, dim=1)


def attended_vectors(queries, context, temperature):
    """What every query (N, A, D) sees of the context (N, K, D): (N, A, D); equations 1 and 2."""
    similarities = F.leaky_relu(queries @ context.mT, 0.1)
    # of each context token, over the queries; the authors add 1e-8 to keep off zero
    similarities = similarities / (similarities.norm(dim=1, keepdim=True) + 1e-8)
    return (similarities * temperature).softmax(dim=2) @ context
