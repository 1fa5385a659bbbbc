"""BidirectionalRecall over real processes: equal to one process, whatever each of them saw."""

import pytest
import torch

from itm_lightning.distributed import gather_rows, rank, world_size
from itm_lightning.errors import InputError
from itm_lightning.metrics import BidirectionalRecall
from itm_lightning.similarity import Cosine, CrossAttention
from tests.distributed.processes import in_groups
from tests.made_up import made_up_features

N_IMAGES = 7
OWNER = torch.tensor([i for i in range(N_IMAGES) for _ in range(1 + i % 3)])
IMAGES, TEXTS = made_up_features(N_IMAGES, 6, seed=1), made_up_features(len(OWNER), 5, seed=2)
IMAGE_IDS = torch.arange(N_IMAGES) * 11 + 3
HEADS = {"pooled": Cosine(), "tokens": CrossAttention()}


def see(metric, images, with_text_ids=False):
    """One sample a batch: a photo with all its captions, as little padded as it may be."""
    for image in images:
        texts = OWNER.eq(image).nonzero()[:, 0]
        metric.update(
            IMAGES[image : image + 1].trim(),
            TEXTS[texts].trim(),
            IMAGE_IDS[image : image + 1],
            IMAGE_IDS[OWNER[texts]],
            texts if with_text_ids else None,
        )


def padded_share():
    """What a DistributedSampler gives: shares of one size, filled up with photos from the start."""
    size = -(-N_IMAGES // world_size())
    images = [i % N_IMAGES for i in range(size * world_size())]
    return images[rank() :: world_size()]


def all_on_the_first():
    return range(N_IMAGES) if rank() == 0 else []


def uneven_share():
    return range(1, N_IMAGES) if rank() else [0]


SHARES = {share.__name__: share for share in (padded_share, all_on_the_first, uneven_share)}


def recall(share, head, with_text_ids):
    metric = BidirectionalRecall(HEADS[head])
    see(metric, SHARES[share](), with_text_ids)
    gallery = metric.gallery()
    return metric.compute(), len(gallery.images), len(gallery.texts)


def texts_of_one_image_apart(with_text_ids):
    metric = BidirectionalRecall(Cosine())
    for text in range(rank(), len(OWNER), world_size()):
        image = int(OWNER[text])
        metric.update(
            IMAGES[image : image + 1],
            TEXTS[text : text + 1],
            IMAGE_IDS[image : image + 1],
            IMAGE_IDS[OWNER[text : text + 1]],
            torch.tensor([text]) if with_text_ids else None,
        )
    return metric.compute()


def gathered():
    """Rows and columns in numbers that differ, of every dtype a metric keeps; none on the first."""
    cpu, r = torch.device("cpu"), rank()
    block = None if r == 0 else torch.full((r, 2 * r), r)
    floats = [torch.bfloat16, torch.float64, torch.bool]
    return (
        gather_rows(block, cpu),
        [gather_rows(None if block is None else block.to(dtype), cpu) for dtype in floats],
        gather_rows(None, cpu),
        gather_rows(torch.zeros(0 if r else 2, 3), cpu),
    )


SCENARIOS = {
    (share, head, with_ids): (recall, share, head, with_ids)
    for share in SHARES
    for head in HEADS
    for with_ids in (False, True)
} | {
    "apart": (texts_of_one_image_apart, False),
    "apart, with ids": (texts_of_one_image_apart, True),
    "gathered": (gathered,),
}


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except InputError as error:
        return str(error)


def all_outcomes():
    return {name: outcome(*call) for name, call in SCENARIOS.items()}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Every scenario's outcome by number of processes, once a process."""
    return in_groups(all_outcomes, (3, 2), tmp_path_factory)


def single_process(head):
    metric = BidirectionalRecall(HEADS[head])
    see(metric, range(N_IMAGES))
    return metric.compute()


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("with_text_ids", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("share", SHARES)
def test_equals_a_single_process(outcomes, world, share, head, with_text_ids):
    for process in outcomes[world]:
        table, n_images, n_texts = process[share, head, with_text_ids]
        assert table == single_process(head)
        assert (n_images, n_texts) == (N_IMAGES, len(OWNER))


@pytest.mark.parametrize("world", [2, 3])
def test_texts_of_one_image_on_several_processes_need_ids(outcomes, world):
    for process in outcomes[world]:
        assert "pass text_ids to update" in process["apart"]
        assert process["apart, with ids"] == single_process("pooled")


def test_gathers_rows_of_any_shape_and_dtype(outcomes):
    expected = torch.tensor([[1, 1, 0, 0], [2, 2, 2, 2], [2, 2, 2, 2]])
    for process in outcomes[3]:
        numbers, others, nothing, empty = process["gathered"]
        assert numbers.equal(expected)
        assert [other.dtype for other in others] == [torch.bfloat16, torch.float64, torch.bool]
        assert all(other.equal(expected.to(other.dtype)) for other in others)
        assert nothing is None
        assert empty.equal(torch.zeros(2, 3))


def test_a_single_process_gathers_its_own_rows():
    rows = torch.ones(2, 3)
    assert gather_rows(rows, torch.device("cpu")) is rows
    assert gather_rows(None, torch.device("cpu")) is None
    assert (rank(), world_size()) == (0, 1)
