"""A training step on made-up features: of one process, or of several that share the batch."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from itm_lightning.distributed import SingleProcess, all_processes
from itm_lightning.objectives import (
    MMD,
    Diversity,
    Entailment,
    InformationBottleneck,
    LocalComparison,
    Objective,
    WeightedSum,
)
from itm_lightning.objectives.distributed_comparison import DistributedComparison
from itm_lightning.similarity import CrossAttention, Gaussian, Lorentz, Similarity, SmoothChamfer
from itm_lightning.training.gradient_cache import encode_by_chunks
from itm_lightning.types import Features
from tests.made_up import encoded_batch, made_up_features
from tests.objectives.losses import EXAMPLES
from tests.similarity.heads import DIM, HEADS, WITHOUT_GRADIENT

#: The first rows are one process's, the next another's; they differ in number.
SHARES = {1: [7], 2: [4, 3], 3: [3, 1, 3]}
#: Photos stand twice in the batch, with another caption: of one process, and of two.
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
    default = SmoothChamfer() if reads_tokens else HEADS["Mlp"]
    return by_type.get(type(objective), default)


def in_training(head):
    """A copy in training mode, without dropout: it would differ between processes."""
    head = copy.deepcopy(head).train()
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return head


OBJECTIVES = {name: Step(head_of(each), each) for name, each in EXAMPLES.items()}
TOKENS = {
    f"{name}, on tokens": Step(CrossAttention("both"), EXAMPLES[name])
    for name in ("InfoNCE", "Sigmoid", "Triplet", "MatchProbability")
}
EVERY_HEAD = {
    f"head {name}": Step(head, EXAMPLES["InfoNCE"])
    for name, head in HEADS.items()
    if name not in WITHOUT_GRADIENT
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
}


class Model(nn.Module):
    """The Matcher's training step without Lightning."""

    def __init__(self, step):
        super().__init__()
        self.head, self.objective = copy.deepcopy(step.head), copy.deepcopy(step.objective)
        self.step = step
        torch.manual_seed(0)
        self.encoders = nn.ModuleList(
            nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh(), nn.Dropout(step.dropout))
            for _ in range(2)
        )

    def encode(self, encoder, side):
        kept = self.head.select(side.trim())
        fields = kept.tokens, kept.pooled
        tokens, pooled = (None if field is None else encoder(field) for field in fields)
        return Features(tokens, kept.mask, pooled)

    def scored(self):
        """Notes the shape of every block of scores that the head makes."""
        shapes, score = [], self.head.score

        def noting(images, texts):
            shapes.append((len(images), len(texts)))
            return score(images, texts)

        self.head.score = noting
        return shapes

    def chunks(self, encoder, side):
        size, encode = self.step.chunk, lambda part: self.encode(encoder, part)
        if self.step.replay:
            return encode_by_chunks(encode, side, size, side.pooled)
        return Features.cat([encode(side[i : i + size]) for i in range(0, len(side), size)])

    def forward(self, processes, *shares):
        """The loss to go backward from, and the loss of the whole batch; of rows of each share."""
        images, texts = [], []
        for number, rows in shares:
            torch.manual_seed(number)  # whoever encodes a share draws the same dropout
            images.append(self.chunks(self.encoders[0], IMAGES[rows]))
            texts.append(self.chunks(self.encoders[1], TEXTS[rows]))
        ids = torch.cat([IDS[rows] for _, rows in shares])
        features = Features.cat(images), Features.cat(texts)
        encoded = encoded_batch(*features, ids)
        if processes.size == 1:
            comparison = LocalComparison(self.head, encoded)
        else:
            comparison = DistributedComparison(self.head, encoded, processes)
        share = self.objective.loss(comparison)
        return processes.size * share, comparison.total(share.detach())


def scored(step, world, rank):
    """The shapes of the scores that a process makes in a forward pass."""
    model, start = Model(step).double(), sum(SHARES[world][:rank])
    shapes = model.scored()
    model(all_processes(), (rank, slice(start, start + SHARES[world][rank])))
    return shapes


def trained(step, world, rank=None):
    """Loss, gradients and statistics of a step: of one of several processes, or of one for all."""
    model = Model(step).double()
    starts = torch.tensor([0, *SHARES[world]]).cumsum(0).tolist()
    shares = [(i, slice(starts[i], starts[i + 1])) for i in range(world)]
    if rank is None:
        share, loss = model(SingleProcess(), *shares)
    else:
        if step.sync:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        wrapped = DistributedDataParallel(model)
        share, loss = wrapped(all_processes(), shares[rank])
    share.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(model.named_buffers())}
