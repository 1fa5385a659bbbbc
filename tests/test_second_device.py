"""Evaluation where features and weights lie on a device of their own, as on a GPU."""

import copy

import pytest
import torch

from itm_lightning import similarity
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.metrics.protocols import (
    ClassMAP,
    Coco1K,
    GradedClassMAP,
    Retrieval,
    SampledNegatives,
)
from itm_lightning.objectives import LocalComparison
from itm_lightning.ranking import rank_and_top_k
from itm_lightning.similarity import Cosine
from tests.made_up import encoded_batch, made_up_features
from tests.objectives.losses import DIM, EXAMPLES
from tests.objectives.test_feature_objectives import HEADS
from tests.second_device import second_device
from tests.similarity.heads import heads_that_are

IMAGES, OWNERS = torch.arange(8), torch.arange(8).repeat_interleave(2)
TRUTH = GroundTruth(
    {image: [2 * image, 2 * image + 1] for image in range(8)},
    minimal_pairs={0: 1, 1: 0},
    labels={image: (image % 3,) for image in range(8)},
)
FOUR = (
    made_up_features(4, length=3, dim=DIM, seed=1),
    made_up_features(4, length=4, dim=DIM, seed=2),
)
# ids of images, of texts, and labels; no rows: raw texts stay on the CPU
IDS_OF_FOUR = torch.arange(4), torch.arange(4), torch.eye(4, DIM).bool()


@pytest.fixture
def sides():
    return made_up_features(8, length=3, seed=1), made_up_features(16, length=4, seed=2)


def test_devices_do_not_mix():
    with second_device() as there:
        here, gone = torch.ones(3), torch.ones(3).to(there)
        assert (gone + 1).device == there
        assert (gone[torch.tensor([0, 2])].cpu() == 1).all()
        for wrong in (
            lambda: here + gone,
            lambda: here[gone.long()],
            lambda: gone.copy_(here) + here,
        ):
            with pytest.raises(RuntimeError, match="two devices"):
                wrong()


@pytest.mark.parametrize("head", heads_that_are(similarity.Similarity))
def test_every_head_ranks_there_as_here(head, sides):
    here = rank_and_top_k(head, *sides, IMAGES, OWNERS, 3)
    with second_device() as there:
        features = [side.to(there) for side in sides]
        found = rank_and_top_k(copy.deepcopy(head).to(there), *features, IMAGES, OWNERS, 3)
        ranks = [each.cpu() for each in (found[0].i2t, found[0].t2i)]
    assert [each.tolist() for each in ranks] == [here[0].i2t.tolist(), here[0].t2i.tolist()]


@pytest.mark.parametrize(
    "protocol", [Retrieval(), Coco1K(2, 4, 2), ClassMAP(), GradedClassMAP(), SampledNegatives(4)]
)
def test_protocols_score_there_as_here(protocol, sides):
    def scores(*features):
        metric = BidirectionalRecall(Cosine()).to(features[0].device)
        metric.update(*features, *(ids.to(metric.device) for ids in ids_of_all))
        return protocol.evaluate(metric.similarity, metric.gallery(), TRUTH).scores

    ids_of_all = IMAGES, OWNERS, torch.arange(16)
    here = scores(*sides)
    with second_device() as there:
        assert scores(*(side.to(there) for side in sides)) == here


@pytest.mark.parametrize(
    "name", sorted({*EXAMPLES} - {"CaptionLoss"})
)  # torch's GRU asks for views
@torch.no_grad()
def test_every_objective_learns_there_as_here(name):
    objective = EXAMPLES[name].train()
    head = HEADS.get(type(objective), Cosine())

    def loss(objective, head, encoded):
        torch.manual_seed(0)
        return float(objective.loss(LocalComparison(head, encoded)))

    here = loss(copy.deepcopy(objective), head, encoded_batch(*FOUR, *IDS_OF_FOUR))
    with second_device() as there:
        moved = (each.to(there) for each in (*FOUR, *IDS_OF_FOUR))
        parts = (copy.deepcopy(module).to(there) for module in (objective, head))
        assert loss(*parts, encoded_batch(*moved)) == here
