"""One head of every registered class, for tests that apply to all heads."""

import inspect

import pytest
import torch

from itm_lightning import registry, similarity
from itm_lightning.part import UsesLabels
from tests.made_up import made_up_features

DIM = 8
NEEDED = {
    "dim": DIM,
    "layers": 2,
    "heads": [similarity.Cosine(), similarity.DotProduct()],
}


def example(name):
    """A head of that name, with the arguments that it needs, in evaluation mode."""
    cls = registry.get("similarity", name)
    torch.manual_seed(0)
    parameters = inspect.signature(cls).parameters
    head = cls(**{key: value for key, value in NEEDED.items() if key in parameters}).eval()
    head.build(DIM, DIM)
    if isinstance(head, UsesLabels):
        head.learn_classes("abc")
    if isinstance(head, similarity.ClosedForm):
        labels = torch.eye(3).bool()[torch.arange(99) % 3]
        pairs = made_up_features(99, 3, DIM, 1), made_up_features(99, 3, DIM, 2)
        head.solve(head.observe(*pairs, labels))
    return head


HEADS = {name: example(name) for name in registry.list_registered("similarity")} | {
    "Bilinear, low rank": similarity.Bilinear(DIM, rank=3),
    "CrossAttention, i2t": similarity.CrossAttention("i2t"),
    "CrossAttention, both": similarity.CrossAttention("both"),
    "Hamming, training": similarity.Hamming(),
    "MaxSim, t2i, sum": similarity.MaxSim("t2i", "Sum"),
    "MaxSim, i2t": similarity.MaxSim("i2t"),
    "OptimalTransport, part": similarity.OptimalTransport(mass=0.6),
}
WITHOUT_GRADIENT = {"Hamming"}
# They align a token with its nearest alone.
SPARSE = {"HardAssignment", "MaxSim", "MaxSim, t2i, sum", "MaxSim, i2t"}


def heads_that_are(capability, besides=frozenset()):
    """Heads of a type, as parameters of a test; ``besides`` those of these names."""
    return [
        pytest.param(head, id=name)
        for name, head in HEADS.items()
        if isinstance(head, capability) and name not in besides
    ]
