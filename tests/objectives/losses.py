"""What the tests of losses share: one of each, and the parts of slow, obvious ones."""

import math

import torch
from torch import nn

from itm_lightning import registry
from itm_lightning.objectives import (
    MMD,
    Diversity,
    InfoNCE,
    Sigmoid,
    Triplet,
    WeaklyAligned,
    WeightedSum,
)
from itm_lightning.part import UsesLabels
from itm_lightning.types import Widths

DIM = 8  # of made-up features; and as many classes

IDS = torch.tensor([7, 8, 7, 9])  # the first photo stands twice in the batch


def log_sigmoid(x):
    return math.log(1 / (1 + math.exp(-x)))


def built(objective):
    """An objective with its weights, as a Matcher makes them before a fit."""
    torch.manual_seed(0)
    objective.build(Widths(DIM, DIM, DIM, DIM))
    if isinstance(objective, UsesLabels):
        objective.learn_classes([f"class {number}" for number in range(DIM)])
    objective.learn_vocabulary(map(str, range(DIM)))  # the raw texts of made-up features
    for module in objective.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return objective


def example(name):
    """An objective of that name, given what it needs."""
    if name == "WeightedSum":
        return WeightedSum([Triplet(), InfoNCE()])
    return built(registry.get("objective", name)())


def half_warm():
    objective = Triplet(warmup_steps=4)
    objective.steps += 2
    return objective


RANDOM = {"FashionBERTLoss"}  # it draws what it hides, and is tested by itself
#: One objective of every other registered class, and of the variants that are computed otherwise.
EXAMPLES = {
    name: example(name) for name in registry.list_registered("objective") if name not in RANDOM
} | {
    "Triplet, sum": Triplet(hardest=False),
    "Triplet, warming up": half_warm(),
    "WeaklyAligned, with a density": built(WeaklyAligned(components=2, bank=5)),
    "WeightedSum, of scores, blocks and features": WeightedSum(
        [InfoNCE(), Sigmoid(), Diversity(), MMD()], [1.0, 0.5, 0.1, 2.0]
    ),
}
