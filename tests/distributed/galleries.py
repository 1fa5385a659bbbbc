"""Galleries to evaluate on several processes, and shares of them that processes may see."""

import torch

from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.similarity import Cosine, CrossAttention
from itm_lightning.types import Features
from tests.made_up import made_up_features

N_PHOTOS = 29
# one to five captions, and none at all: those photos are distractors
COUNTS = [(i * 7) % 6 for i in range(N_PHOTOS)]
OWNER = torch.tensor([i for i, count in enumerate(COUNTS) for _ in range(count)])
IMAGE_IDS = torch.arange(N_PHOTOS) * 11 % 101 + 3  # in no order
TEXT_IDS = torch.arange(len(OWNER)) * 17 % 103
LAYOUT = {int(IMAGE_IDS[i]): TEXT_IDS[i == OWNER].tolist() for i in range(N_PHOTOS) if COUNTS[i]}


def features(ties):
    """Photos and captions; where ties are wanted, few different ones, and scores that are equal."""
    images = made_up_features(N_PHOTOS, 6, seed=1)
    texts = made_up_features(len(OWNER), 5, seed=2)
    if not ties:
        return images, texts
    return images[torch.arange(N_PHOTOS) % 4], texts[torch.arange(len(OWNER)) % 6]


def head(name):
    return {"pooled": Cosine(), "tokens": CrossAttention()}[name]


def padded(rank, size):
    """What a DistributedSampler gives: shares of one size, filled up with photos from the start."""
    total = -(-N_PHOTOS // size) * size
    return [i % N_PHOTOS for i in range(total)][rank::size]


def all_on_the_last(rank, size):
    return range(N_PHOTOS) if rank == size - 1 else []


def none_on_the_last(rank, size):
    return range(rank, N_PHOTOS, size - 1) if rank < size - 1 else []


SHARES = {share.__name__: share for share in (padded, all_on_the_last, none_on_the_last)}


def seen(metric, photos, ties=False, text_ids=True):
    """The metric, after batches of three photos with their captions, hardly padded."""
    images, texts = features(ties)
    photos = list(photos)
    for start in range(0, len(photos), 3):
        batch = torch.tensor(photos[start : start + 3])
        captions = torch.cat([OWNER.eq(photo).nonzero()[:, 0] for photo in batch.unique()])
        ids = IMAGE_IDS[batch], IMAGE_IDS[OWNER[captions]]
        metric.update(
            images[batch].trim(),
            texts[captions].trim(),
            *ids,
            TEXT_IDS[captions] if text_ids else None,
        )
    return metric


def metric_of(name, photos, **kwargs):
    return seen(BidirectionalRecall(head(name)), photos, **kwargs)


def broken(ties=False):
    """The first photo's features hold NaN."""
    images, texts = features(ties)
    tokens = images.tokens.clone()
    tokens[0] = torch.nan
    return Features.from_tokens(tokens, images.mask), texts
