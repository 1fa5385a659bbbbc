"""Evaluation by several gloo processes: equal to one process's to the last bit."""

import functools

import pytest
import torch
from torch import distributed as dist

from itm_lightning.distributed import ShardedFeatures, all_processes, rank, world_size
from itm_lightning.errors import InputError
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics import BidirectionalRecall, pairs_accuracy
from itm_lightning.metrics.hubness import correct_hubs
from itm_lightning.metrics.protocols import (
    ClassMAP,
    Coco1K,
    Retrieval,
    SampledNegatives,
    Shortlist,
    TransductiveClassMAP,
)
from itm_lightning.ranking import blocks, rank_and_top_k, top_k
from itm_lightning.ranking import rank as ranks_of
from itm_lightning.similarity import CFA, NNN, Cosine, CrossAttention, InvertedSoftmax
from tests.distributed import galleries
from tests.distributed.galleries import IMAGE_IDS, LAYOUT, N_IMAGES, OWNER, SHARES, metric_of
from tests.distributed.processes import in_groups

WORLDS = [2, *(pytest.param(world, marks=pytest.mark.slow) for world in (3, 4))]
CASES = [*((share, False) for share in SHARES), ("padded", True)]
TWINS = {int(IMAGE_IDS[i]): int(IMAGE_IDS[i + 1]) for i in range(0, N_IMAGES - 1, 2)}
SMALL = 200 * 16  # bytes: units of few photos, groups of few captions


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_CPU_BYTES", SMALL)


def scored(share, name, **kwargs):
    """All that an evaluation yields: scores bit by bit too."""
    metric = metric_of(name, SHARES[share](rank(), world_size()), **kwargs)
    gallery = metric.gallery()
    sides = gallery.images, gallery.texts
    ids = gallery.image_ids, gallery.text_image_ids
    ranks, near = rank_and_top_k(metric.similarity, *sides, *ids, 7)
    alone = top_k(metric.similarity, *sides, 3)
    found = metric.compute(), ranks, near, alone, ids
    if not kwargs.get("text_ids", True):
        return found
    protocols = [
        Retrieval(),
        SampledNegatives(9),
        Coco1K(2, len(LAYOUT) // 2, texts_per_image=3),
        *([Shortlist(4)] if name == "members" else []),
    ]
    layout = GroundTruth(dict(list(LAYOUT.items())[: len(LAYOUT) // 2 * 2]))
    return (
        *found,
        [protocol.evaluate(metric.similarity, gallery, layout) for protocol in protocols],
        pairs_accuracy(metric.similarity, gallery, TWINS),
    )


def hub_corrected(name, correction):
    """The bank is the same images and texts with other features; scores bit by bit."""
    share = SHARES["padded"](rank(), world_size())
    gallery, bank = (metric_of(name, share, ties=ties).gallery() for ties in (False, True))
    head, corrected = correct_hubs(galleries.head(name), gallery, bank, correction)
    sides = corrected.images, corrected.texts, corrected.image_ids, corrected.text_image_ids
    return rank_and_top_k(head, *sides, 7)


def by_class(name):
    """In a few parts of each side: every part is a round of messages."""
    share = "padded" if world_size() == 1 else "none_on_the_last"
    metric = metric_of(name, SHARES[share](rank(), world_size()))
    truth = GroundTruth(LAYOUT, labels={image: {image % 3, image % 4} for image in LAYOUT})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_CPU_BYTES", 10 * SMALL)
        return ClassMAP().evaluate(metric.similarity, metric.gallery(), truth)


def transductive():
    """With projections of no solution; the bank is other images and texts."""
    share = SHARES["none_on_the_last" if world_size() > 1 else "padded"](rank(), world_size())
    gallery, bank = (metric_of("pooled", share, ties=ties).gallery() for ties in (False, True))
    truth = GroundTruth(LAYOUT, labels={image: {image % 3} for image in IMAGE_IDS.tolist()})
    head = CFA(3)
    head.build(8, 8)
    for i, parameter in enumerate(head.parameters()):
        weights = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(i))
        parameter.requires_grad_(False).copy_(weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_CPU_BYTES", 20 * SMALL)
        protocol = TransductiveClassMAP(neighbours=9)
        return protocol.evaluate(head, gallery, truth, (bank, truth))


def a_nan_on_one():
    """Photo 0 lies on the first process, and is scored by whoever has its unit."""
    metric = BidirectionalRecall(Cosine())
    images, texts = galleries.broken()
    for image in range(rank(), N_IMAGES, world_size()):
        text_features = OWNER.eq(image).nonzero()[:, 0]
        ids = IMAGE_IDS[image : image + 1], IMAGE_IDS[OWNER[text_features]]
        metric.update(images[image : image + 1], texts[text_features], *ids)
    return metric.compute()


class FailsOnTheLast(Cosine):
    def score(self, images, texts):
        if rank() == world_size() - 1:
            raise MemoryError("no room left")
        return super().score(images, texts)


def a_failure_on_one():
    metric = BidirectionalRecall(FailsOnTheLast())
    return galleries.seen(metric, range(rank(), N_IMAGES, world_size())).compute()


def one_id_for_two_things():
    metric = BidirectionalRecall(CrossAttention())
    images, texts = galleries.features(ties=False)
    mine = slice(rank(), rank() + 1)
    metric.update(images[mine], texts[mine], torch.tensor([5]), torch.tensor([5]), torch.arange(1))
    return metric.compute()


def text_ids_on_the_first_only():
    return metric_of("pooled", [rank()], text_ids=rank() == 0).compute()


def nobody_saw_anything():
    return BidirectionalRecall(Cosine()).compute()


def widths_that_differ():
    local = galleries.features(ties=False)[0][:2]
    if rank():
        local = type(local).from_pooled(local.pooled[:, :-1])
    return ShardedFeatures.of(local, torch.device("cpu"), all_processes())


def one_by_itself():
    """Plain features, a batch's recall and a metric of one process: the others do nothing."""
    if rank():
        return None
    images, texts = galleries.features(ties=False)
    ids = IMAGE_IDS, IMAGE_IDS[OWNER]
    metric = BidirectionalRecall(Cosine())
    by_itself = BidirectionalRecall(Cosine(), sync_on_compute=False)
    by_itself.update(images, texts, *ids)
    ranks = ranks_of(Cosine(), images, texts, *ids)
    return ranks, metric(images, texts, *ids), by_itself.compute()


def a_group_of_two():
    pair = dist.new_group([world_size() - 2, world_size() - 1])
    member = rank() - (world_size() - 2)
    if member < 0:
        return None
    metric = BidirectionalRecall(Cosine(), process_group=pair)
    return galleries.seen(metric, SHARES["padded"](member, 2)).compute()


def most_held():
    """The most rows of photos and of captions that a process prepares, and the most pairs."""
    held = {"images": 0, "texts": [], "pairs": []}

    class Watching(CrossAttention):
        def prepare_images(self, images):
            held["images"] += len(images)
            return super().prepare_images(images)

        def prepare_texts(self, texts):
            held["texts"].append(len(texts))
            return super().prepare_texts(texts)

        def score(self, images, texts):
            scores = super().score(images, texts)
            held["pairs"].append(scores.numel())
            return scores

    metric = galleries.seen(BidirectionalRecall(Watching()), SHARES["padded"](rank(), world_size()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_CPU_BYTES", SMALL // 2)  # small units are shared more evenly
        metric.compute()
    return held, len(metric.image_tokens[0])


SCENARIOS = {
    (share, name, ties): functools.partial(scored, share, name, ties=ties)
    for share, ties in CASES
    for name in galleries.HEADS
} | {
    "nearest neighbours": functools.partial(hub_corrected, "members", NNN(k=5)),
    "inverted softmax": functools.partial(hub_corrected, "tokens", InvertedSoftmax()),
    "class mAP": functools.partial(by_class, "members"),
    "transductive class mAP": transductive,
    "no ids": functools.partial(scored, "padded", "tokens", text_ids=False),
    **{
        function.__name__: function
        for function in (
            a_nan_on_one,
            a_failure_on_one,
            one_id_for_two_things,
            text_ids_on_the_first_only,
            nobody_saw_anything,
            widths_that_differ,
            one_by_itself,
            a_group_of_two,
            most_held,
        )
    },
}


def outcome(function):
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def all_outcomes():
    blocks._CPU_BYTES = SMALL
    return {name: outcome(function) for name, function in SCENARIOS.items()}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of a number of processes, every scenario's outcome, once a process."""

    @functools.cache
    def of_group(world):
        return in_groups(all_outcomes, (world,), tmp_path_factory)[world]

    return of_group


def same(left, right):
    """Whether two outcomes are equal bit for bit, however nested."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.equal(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if hasattr(left, "__dict__"):
        return same(vars(left), vars(right))
    return left == right


@functools.cache
def alone(name, ties):
    return scored("padded", name, ties=ties)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", galleries.HEADS)
@pytest.mark.parametrize(("share", "ties"), CASES)
def test_equals_one_process_bit_for_bit(outcomes, world, share, name, ties):
    expected = alone(name, ties)
    for process in outcomes(world):
        assert same(process[share, name, ties], expected)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    "name", ["nearest neighbours", "inverted softmax", "class mAP", "transductive class mAP"]
)
def test_hub_corrections_and_class_map_equal_those_of_one_process(outcomes, world, name):
    expected = SCENARIOS[name]()
    for process in outcomes(world):
        assert same(process[name], expected)


@pytest.mark.parametrize("world", WORLDS)
def test_texts_without_ids_are_known_by_their_image(outcomes, world):
    expected = SCENARIOS["no ids"]()
    assert all(same(process["no ids"], expected) for process in outcomes(world))


def test_what_is_compared_has_ties_and_several_blocks():
    head, (images, texts) = galleries.head("tokens"), galleries.features(ties=True)
    scores = head(images, texts)
    assert len(scores.unique()) < scores.numel() / 8
    held, _ = most_held()
    assert len(held["pairs"]) > 50


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_nan_on_one", "InputError: Cosine gave a NaN score"),
        ("one_id_for_two_things", "InputError: photo id 5 stands for"),
        ("text_ids_on_the_first_only", "InputError: text_ids came with"),
        ("nobody_saw_anything", "InputError: BidirectionalRecall has seen no photos"),
        ("widths_that_differ", "InputError: the features of the processes differ"),
    ],
)
def test_bad_input_is_refused_by_all(outcomes, world, name, message):
    errors = {process[name] for process in outcomes(world)}
    assert len(errors) == 1
    assert errors.pop().startswith(message)


@pytest.mark.parametrize("world", WORLDS)
def test_a_failure_of_one_ends_all(outcomes, world):
    *others, last = (process["a_failure_on_one"] for process in outcomes(world))
    assert last == "MemoryError: no room left"
    assert set(others) == {"RuntimeError: another process failed: MemoryError: no room left"}


@pytest.mark.parametrize("world", WORLDS)
def test_plain_features_and_batches_are_the_business_of_one(outcomes, world):
    assert same(outcomes(world)[0]["one_by_itself"], one_by_itself())


@pytest.mark.parametrize("world", WORLDS)
def test_a_group_of_processes_scores_for_itself(outcomes, world):
    expected = metric_of("pooled", range(N_IMAGES)).compute()
    for process in outcomes(world)[-2:]:
        assert process["a_group_of_two"] == expected


@pytest.mark.parametrize("world", WORLDS)
def test_each_holds_its_share(outcomes, world):
    shares = [process["most_held"] for process in outcomes(world)]
    images = [held["images"] for held, _ in shares]
    assert sum(images) == N_IMAGES
    assert max(images) - min(images) <= 4  # a unit
    for held, local in shares:
        assert local == -(-N_IMAGES // world)  # what the sampler gave it, and no more
        assert max(held["pairs"]) < N_IMAGES * len(OWNER) / 20
        assert max(held["texts"]) < len(OWNER) / 4


def test_one_process_alone_refuses_an_empty_gallery():
    with pytest.raises(InputError, match="no photos or no captions"):
        nobody_saw_anything()
