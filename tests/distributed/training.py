"""A Matcher's training step on made-up features: of one process, or of several."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from itm_lightning import Matcher
from itm_lightning.distributed import SingleProcess, all_processes
from itm_lightning.encoders import NoProjection
from itm_lightning.encoders.base import Token
from itm_lightning.objectives import (
    MMD,
    SCNLM,
    CaptionLoss,
    Diversity,
    Entailment,
    FeatureObjective,
    InfoNCE,
    InformationBottleneck,
    LocalComparison,
    Objective,
    WeightedSum,
)
from itm_lightning.objectives.autoencoder import Autoencoder
from itm_lightning.part import Part
from itm_lightning.similarity import (
    ClosedForm,
    Cosine,
    CrossAttention,
    Gaussian,
    Lorentz,
    Similarity,
    SmoothChamfer,
)
from itm_lightning.types import Batch, EncodedBatch, Features
from tests.made_up import made_up_features
from tests.objectives.losses import EXAMPLES
from tests.similarity.heads import DIM, HEADS, WITHOUT_GRADIENT

#: The first rows are one process's, the next another's; they differ in number.
SHARES = {1: [7], 2: [4, 3], 3: [3, 1, 3]}
#: Two images are twice in the batch, with another text: on one process, and on two.
IDS = torch.tensor([7, 8, 7, 9, 4, 8, 5])
IMAGES, TEXTS = (
    Features(side.tokens.double(), side.mask, side.pooled.double())
    for side in (made_up_features(7, 4, DIM, seed=1), made_up_features(7, 5, DIM, seed=2))
)


@dataclass(frozen=True)
class Step:
    """What trains, and how.

    Attributes:
        head: the similarity.
        objective: the objective.
        dropout: of the encoders.
        chunk: pairs encoded at a time.
        replay: whether chunks are encoded again in the backward pass.
        sync: whether batch norms see all processes' values.
    """

    head: Similarity
    objective: Objective
    dropout: float = 0.0
    chunk: int = 7
    replay: bool = False
    sync: bool = False


def head_of(objective):
    """A head that the objective learns from, with parameters where it may have any."""
    by_type = {Entailment: Lorentz(DIM), InformationBottleneck: Gaussian(DIM)}
    reads_tokens = isinstance(objective, (Diversity, MMD, WeightedSum))
    unread = Cosine() if isinstance(objective, FeatureObjective) else HEADS["Mlp"]
    default = SmoothChamfer() if reads_tokens else unread
    return by_type.get(type(objective), default)


def in_training(head):
    """A copy in training mode, without dropout: it would differ between processes."""
    head = copy.deepcopy(head).train()
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return head


def step_of(objective):
    if isinstance(objective, (CaptionLoss, SCNLM)):  # alone, it leaves encoders without gradient
        return Step(Cosine(), WeightedSum([InfoNCE(), objective]))
    return Step(head_of(objective), objective)


OBJECTIVES = {name: step_of(each) for name, each in EXAMPLES.items()}
TOKENS = {
    f"{name}, on tokens": Step(CrossAttention("both"), EXAMPLES[name])
    for name in ("InfoNCE", "Sigmoid", "Triplet", "MatchProbability")
}
EVERY_HEAD = {
    f"head {name}": Step(head, EXAMPLES["InfoNCE"])
    for name, head in HEADS.items()
    if name not in WITHOUT_GRADIENT and not isinstance(head, ClosedForm)  # solved, not trained
}
SYNCED = {
    f"{name}, batch norm of all": Step(in_training(HEADS[name]), EXAMPLES["InfoNCE"], sync=True)
    for name in ("SAF", "SGR")
}
#: Steps of several processes that equal one process's.
EQUAL = OBJECTIVES | TOKENS | EVERY_HEAD | SYNCED
#: The same with a gradient cache and dropout, to be compared with the same chunks without it.
CACHED = {
    f"{name}, cached": Step(step.head, step.objective, dropout=0.5, chunk=2, replay=True)
    for name, step in (OBJECTIVES | TOKENS).items()
    # reads what the cache does not keep
    if name != "CaptionLoss" and not isinstance(step.objective, Autoencoder)
}


class SideEncoder(Part, nn.Module):
    """Encodes rows of made-up features, or the numbers of such rows as texts."""

    dim = DIM

    def __init__(self, dropout):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh(), nn.Dropout(dropout))

    def pixels(self, images):
        return images

    def token_ids(self, texts):
        ids = torch.tensor([[int(text) + 2] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def words(self, texts):
        return [[Token(text, special=False)] for text in texts]

    def forward(self, inputs):
        if isinstance(inputs, list):
            inputs = TEXTS[torch.tensor([int(text) for text in inputs])]
        side = inputs.trim()
        return Features(self.layers(side.tokens), side.mask, self.layers(side.pooled))


def batch_of(rows):
    ids = IDS[rows]
    texts = [str(row) for row in range(*rows.indices(len(IDS)))]
    labels = ids[:, None] % torch.arange(2, DIM + 2) == 0
    return Batch(IMAGES[rows], texts, ids, ids, torch.arange(len(IDS))[rows], labels)


class TrainingStep(nn.Module):
    """A Matcher's own training step as a forward pass, which DDP can wrap."""

    def __init__(self, step, processes):
        super().__init__()
        torch.manual_seed(0)
        self.matcher = Matcher(
            *(SideEncoder(step.dropout) for _ in range(2)),
            copy.deepcopy(step.head),
            copy.deepcopy(step.objective),
            image_projection=NoProjection(),
            text_projection=NoProjection(),
            gradient_cache=step.chunk if step.replay else None,
        ).double()
        self.matcher._processes = processes  # as its setup does where a Trainer begins a fit
        self.logged = {}
        self.matcher.log = lambda name, value, **_: self.logged.update({name: value})

    def forward(self, batch):
        return self.matcher.training_step(batch, 0)

    def outcome(self):
        """Loss of the whole batch, gradients and statistics, after a backward pass."""
        gradients = {name: p.grad for name, p in self.matcher.named_parameters()}
        buffers = dict(self.matcher.named_buffers())
        return {"loss": self.logged["train/loss"], **gradients, **buffers}


def rows_of(world, rank):
    start = sum(SHARES[world][:rank])
    return slice(start, start + SHARES[world][rank])


def scored(step, world, rank):
    """The shapes of the scores that a process makes in a training step."""
    model = TrainingStep(step, all_processes())
    head, shapes = model.matcher.similarity, []
    score = head.score

    def noting(images, texts):
        shapes.append((len(images), len(texts)))
        return score(images, texts)

    head.score = noting
    model(batch_of(rows_of(world, rank)))
    return shapes


def trained(step, world, rank):
    """What a training step leaves on one of several processes."""
    model = TrainingStep(step, all_processes())
    if step.sync:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    torch.manual_seed(rank)
    wrapped(batch_of(rows_of(world, rank))).backward()
    return model.outcome()


def by_hand(step, world):
    """What a step leaves that encodes all shares one after another, and compares them at once.

    The dropout of each share is that of the process that trains on it in :func:`trained`.
    """
    model = TrainingStep(step, SingleProcess())
    matcher, images, texts = model.matcher, [], []
    for rank in range(world):
        torch.manual_seed(rank)
        batch = batch_of(rows_of(world, rank))
        starts = range(0, len(batch.texts), step.chunk)
        images += [matcher.encode_images(batch.images[i : i + step.chunk]) for i in starts]
        texts += [matcher.encode_texts(batch.texts[i : i + step.chunk]) for i in starts]
    reading = matcher.text_encoder.token_ids, matcher.text_encoder.words
    sides = Features.cat(images), Features.cat(texts)
    whole = batch_of(slice(None))
    unprojected = matcher.image_encoder(whole.images), matcher.text_encoder(whole.texts)
    encoded = EncodedBatch(whole, *sides, *unprojected, *reading)
    loss = matcher.objective.loss(LocalComparison(matcher.similarity, encoded))
    loss.backward()
    model.logged["train/loss"] = loss.detach()
    return model.outcome()
