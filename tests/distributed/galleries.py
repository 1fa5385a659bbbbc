"""Galleries to evaluate on several processes, and shares of them that processes may see."""

import torch

from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.similarity import Cosine, CrossAttention, Ensemble
from itm_lightning.types import Features, MemberFeatures
from tests.made_up import made_up_features

N_IMAGES = 29
# one to five captions, and none at all: those images are distractors
COUNTS = [(i * 7) % 6 for i in range(N_IMAGES)]
OWNER = torch.tensor([i for i, count in enumerate(COUNTS) for _ in range(count)])
IMAGE_IDS = torch.arange(N_IMAGES) * 11 % 101 + 3  # in no order
TEXT_IDS = torch.arange(len(OWNER)) * 17 % 103
LAYOUT = {int(IMAGE_IDS[i]): TEXT_IDS[i == OWNER].tolist() for i in range(N_IMAGES) if COUNTS[i]}


def features(ties, members=False):
    """Images and texts; where ties are wanted, few different ones, and scores that are equal."""
    images = made_up_features(N_IMAGES, 6, seed=1)
    texts = made_up_features(len(OWNER), 5, seed=2)
    if members:  # the second has fewer regions, more words, and another width
        images = MemberFeatures((images, made_up_features(N_IMAGES, 4, 6, seed=3)))
        texts = MemberFeatures((texts, made_up_features(len(OWNER), 9, 6, seed=4)))
    if not ties:
        return images, texts
    return images[torch.arange(N_IMAGES) % 4], texts[torch.arange(len(OWNER)) % 6]


HEADS = {
    "pooled": Cosine(),
    "tokens": CrossAttention(),
    "members": Ensemble([Cosine(), CrossAttention()], [1, 3]),
}


def head(name):
    return HEADS[name]


def padded(rank, size):
    """What a DistributedSampler gives: shares of one size, filled up with photos from the start."""
    total = -(-N_IMAGES // size) * size
    return [i % N_IMAGES for i in range(total)][rank::size]


def all_on_the_last(rank, size):
    return range(N_IMAGES) if rank == size - 1 else []


def none_on_the_last(rank, size):
    return range(rank, N_IMAGES, size - 1) if rank < size - 1 else []


SHARES = {share.__name__: share for share in (padded, all_on_the_last, none_on_the_last)}


def seen(metric, image_rows, ties=False, text_ids=True):
    """The metric, after batches of three images with their texts, hardly padded."""
    images, texts = features(ties, isinstance(metric.similarity, Ensemble))
    image_rows = list(image_rows)
    for start in range(0, len(image_rows), 3):
        batch = torch.tensor(image_rows[start : start + 3])
        text_rows = torch.cat([OWNER.eq(image).nonzero()[:, 0] for image in batch.unique()])
        ids = IMAGE_IDS[batch], IMAGE_IDS[OWNER[text_rows]]
        metric.update(
            images[batch].trim(),
            texts[text_rows].trim() if len(text_rows) else None,
            *ids,
            TEXT_IDS[text_rows] if text_ids else None,
        )
    return metric


def metric_of(name, images, **kwargs):
    return seen(BidirectionalRecall(head(name)), images, **kwargs)


def broken(ties=False):
    """The first photo's features hold NaN."""
    images, texts = features(ties)
    tokens = images.tokens.clone()
    tokens[0] = torch.nan
    return Features.from_tokens(tokens, images.mask), texts
