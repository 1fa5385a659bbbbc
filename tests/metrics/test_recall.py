import copy
import pickle

import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection

from itm_lightning.distributed import ShardedFeatures, SingleProcess
from itm_lightning.errors import InputError
from itm_lightning.metrics import BidirectionalRecall, retrieval_recall
from itm_lightning.ranking import blocks, rank
from itm_lightning.similarity import Bilinear, Cosine, CrossAttention, Ensemble
from itm_lightning.types import Features, MemberFeatures
from tests.made_up import golden, made_up_features

IMAGE_IDS = torch.tensor([40, 10, 30, 20])
TEXT_IMAGE_IDS = torch.tensor([10, 30, 10, 20, 40, 30, 10, 20, 30, 30])
IMAGES, TEXTS = made_up_features(4, 6, seed=1), made_up_features(10, 5, seed=2)


def update(metric, images, texts, text_ids=None):
    """A batch of those rows, with no more padding than it needs."""
    metric.update(
        IMAGES[images].trim(),
        TEXTS[texts].trim(),
        IMAGE_IDS[images],
        TEXT_IMAGE_IDS[texts],
        None if text_ids is None else torch.tensor(text_ids),
    )


def filled(head, **kwargs):
    metric = BidirectionalRecall(head, **kwargs)
    update(metric, [0, 1, 2], [0, 3, 1, 8])
    update(metric, [3], [2, 4, 5, 6, 7, 9])
    return metric


@pytest.mark.parametrize(
    "head", [Cosine(), Bilinear(8), CrossAttention("t2i"), CrossAttention("i2t")]
)
def test_batches_of_any_shape_give_the_recall_of_the_whole_matrix(head):
    expected = retrieval_recall(head(IMAGES, TEXTS), IMAGE_IDS, TEXT_IMAGE_IDS)
    assert filled(head).compute() == expected


def test_equals_the_published_implementation():
    data = golden("recall")
    metric = BidirectionalRecall(Cosine())
    ids, owner = torch.arange(200), torch.arange(1000) // 5
    for start in range(0, 200, 64):
        images, texts = slice(start, start + 64), slice(5 * start, 5 * (start + 64))
        metric.update(
            Features.from_pooled(data["images"][images]),
            Features.from_pooled(data["captions"][texts]),
            ids[images],
            owner[texts],
        )
    table = metric.compute()
    for way in ("i2t", "t2i"):
        names = ("R@1", "R@5", "R@10", "medr", "meanr")
        ours = [float(table[f"{way}_{name}"]) for name in names]
        assert ours == pytest.approx(data[way].tolist(), abs=1e-9)


def test_a_image_may_come_with_each_of_its_texts():
    metric = BidirectionalRecall(Cosine())
    for j in range(10):
        update(metric, [IMAGE_IDS.tolist().index(TEXT_IMAGE_IDS[j])], [j], [j])
    gallery = metric.gallery()
    assert gallery.image_ids.tolist() == [10, 20, 30, 40]
    assert gallery.text_ids.tolist() == [0, 2, 6, 3, 7, 1, 5, 8, 9, 4]  # by photo, then by id
    assert metric.compute() == retrieval_recall(Cosine()(IMAGES, TEXTS), IMAGE_IDS, TEXT_IMAGE_IDS)


def test_texts_that_come_again_count_once():
    metric = filled(Cosine())
    metric.reset()
    update(metric, [0, 1, 2], [0, 3, 1, 8], [0, 3, 1, 8])
    update(metric, [3, 2], [2, 4, 5, 6, 7, 9, 8], [2, 4, 5, 6, 7, 9, 8])
    gallery = metric.gallery()
    assert gallery.image_ids.tolist() == [10, 20, 30, 40]
    assert gallery.text_ids.tolist() == [0, 2, 6, 3, 7, 1, 5, 8, 9, 4]  # by photo, then by id
    torch.testing.assert_close(gallery.images.pooled, IMAGES.pooled[IMAGE_IDS.argsort()])
    assert gallery.text_image_ids.equal(TEXT_IMAGE_IDS[gallery.text_ids])
    torch.testing.assert_close(gallery.texts.pooled, TEXTS.pooled[gallery.text_ids])


@pytest.mark.parametrize(
    ("head", "kept"), [(Cosine(), {"pooled"}), (CrossAttention(), {"tokens", "mask"})]
)
def test_keeps_only_what_the_head_reads(head, kept):
    metric = filled(head)
    for side in ("image", "text"):
        fields = {f for f in ("tokens", "mask", "pooled") if getattr(metric, f"{side}_{f}")}
        assert fields == kept


def test_a_batch_of_images_alone_is_one_of_distractors():
    metric = BidirectionalRecall(Cosine())
    nothing = torch.zeros(0, dtype=torch.int64)
    text_id = torch.tensor([7])
    metric.update(IMAGES[:3], TEXTS[:1], IMAGE_IDS[:3], IMAGE_IDS[1:2], text_id)
    metric.update(IMAGES[3:], None, IMAGE_IDS[3:], nothing, nothing)
    scores = Cosine()(IMAGES, TEXTS[[0]])
    assert metric.compute() == retrieval_recall(scores, IMAGE_IDS, IMAGE_IDS[[1]])
    metric.reset()
    metric.update(IMAGES, None, IMAGE_IDS, nothing)
    with pytest.raises(InputError, match="no photos or no captions"):
        metric.compute()


def test_keeps_the_features_of_every_member():
    head = Ensemble([Cosine(), CrossAttention()])
    other = made_up_features(4, 3, 6, seed=5), made_up_features(10, 8, 6, seed=6)
    images, texts = (MemberFeatures(pair) for pair in zip((IMAGES, TEXTS), other, strict=True))
    metric = BidirectionalRecall(head)
    for rows, columns in ([0, 1, 2], [0, 3, 1, 8]), ([3], [2, 4, 5, 6, 7, 9]):
        ids = IMAGE_IDS[rows], TEXT_IMAGE_IDS[columns]
        metric.update(images[rows].trim(), texts[columns].trim(), *ids)
    assert metric.image_tokens == metric.image_pooled_1 == []  # no head reads them
    expected = retrieval_recall(head(images, texts), IMAGE_IDS, TEXT_IMAGE_IDS)
    assert metric.compute() == expected
    mean = (Cosine()(IMAGES, TEXTS) + CrossAttention()(*other)) / 2
    assert expected == retrieval_recall(mean, IMAGE_IDS, TEXT_IMAGE_IDS)


def test_holds_no_graph():
    metric = BidirectionalRecall(Cosine())
    pooled = IMAGES.pooled.clone().requires_grad_()
    metric.update(Features.from_pooled(pooled * 2), TEXTS, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert metric.image_pooled[0].grad_fn is None


def test_the_gallery_is_made_once_until_more_comes():
    metric = filled(Cosine())
    first = metric.gallery()
    metric.compute()
    assert metric.gallery() is first
    metric.update(
        Features.from_pooled(torch.ones(1, 8)),
        Features.from_pooled(torch.ones(1, 8)),
        torch.tensor([77]),
        torch.tensor([77]),
    )
    assert len(metric.gallery().images) == 5
    metric.reset()
    with pytest.raises(InputError, match="no photos or no captions"):
        metric.gallery()


def test_features_are_not_kept_twice():
    metric = filled(CrossAttention())
    expected = metric.compute()
    (tokens,) = metric.text_tokens  # the batches are gone
    assert tokens.shape == TEXTS.tokens.shape
    update(metric, [0], [0])
    assert metric.text_image_ids[-1].tolist() == [10]
    metric.reset()
    update(metric, [0, 1, 2, 3], list(range(10)))
    assert metric.compute() == expected


def test_reset_forgets_everything():
    metric = filled(Cosine())
    expected = metric.compute()
    metric.reset()
    update(metric, [0, 1], [0, 4])
    assert metric.compute() != expected
    metric.reset()
    update(metric, [0, 1, 2, 3], list(range(10)))
    assert metric.compute() == expected


def test_calling_it_updates_it_and_gives_the_recall_of_the_batch():
    metric = BidirectionalRecall(Cosine(), ks=(1, 2))
    update(metric, [0], [4])
    rows, columns = [1, 2, 3], [0, 3, 1, 8]
    batch = IMAGES[rows], TEXTS[columns], IMAGE_IDS[rows], TEXT_IMAGE_IDS[columns]
    expected = retrieval_recall(Cosine()(*batch[:2]), *batch[2:], ks=(1, 2))
    assert metric(*batch) == expected
    assert len(metric.gallery().images) == 4
    assert metric.compute() != expected


def test_a_collection_of_heads_scores_as_each_would_alone():
    heads = {"cosine": Cosine(), "bilinear": Bilinear(8)}  # torchmetrics lets them share a state
    metrics = MetricCollection({name: BidirectionalRecall(head) for name, head in heads.items()})
    for columns in ([0, 3, 1, 8, 4], [2, 5, 6, 7, 9]):
        batch = IMAGES, TEXTS[torch.tensor(columns)], IMAGE_IDS, TEXT_IMAGE_IDS[columns]
        metrics.update(*batch, text_ids=torch.tensor(columns))
        table = metrics.compute()
    for name, head in heads.items():
        expected = retrieval_recall(head(IMAGES, TEXTS), IMAGE_IDS, TEXT_IMAGE_IDS)
        assert {key: table[f"{name}_{key}"] for key in expected} == expected
    metrics.reset()
    batch = IMAGES, TEXTS, IMAGE_IDS, TEXT_IMAGE_IDS
    metrics.update(*batch)
    metrics.update(*(side[:0] for side in batch))
    assert metrics.compute() == table


def test_torchmetrics_own_arguments_are_taken():
    metric = filled(CrossAttention(), compute_on_cpu=True)
    assert metric.compute_on_cpu
    assert metric.compute() == filled(CrossAttention()).compute()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_features_that_wait_on_the_cpu_are_scored_where_the_head_is():
    head = Bilinear(8).cuda()
    metric = BidirectionalRecall(head, compute_on_cpu=True).to("cuda")
    metric.update(IMAGES.to("cuda"), TEXTS.to("cuda"), IMAGE_IDS, TEXT_IMAGE_IDS)
    assert metric.gallery().images.device.type == "cpu"
    assert metric.compute() == filled(copy.deepcopy(head).cpu()).compute()
    metric.to("cpu").to("cuda")
    assert metric.gallery().images.device.type == "cuda"


def test_the_head_is_no_part_of_the_metric():
    head = Bilinear(8)
    metric = filled(head)
    assert not list(metric.parameters())
    assert not metric.state_dict()
    assert metric.similarity is head
    model = nn.ModuleDict({"head": head, "recall": metric})
    assert set(model.state_dict()) == {"head.image_weight"}


def test_pickles_and_copies_with_its_head():
    metric = filled(Bilinear(8))
    for other in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        assert other.similarity is not metric.similarity
        assert other.compute() == metric.compute()
    model = nn.ModuleDict({"head": metric.similarity, "recall": metric})
    copied = copy.deepcopy(model)
    assert copied["recall"].similarity is copied["head"]


def test_a_clone_has_its_own_state_and_the_same_head():
    metric = filled(Bilinear(8))
    clone = metric.clone()
    assert clone.similarity is metric.similarity
    clone.reset()
    assert metric.compute() == filled(metric.similarity).compute()


def test_ks_choose_the_columns():
    table = filled(Cosine(), ks=(1, 3)).compute()
    assert [key for key in table if "R@" in key] == ["i2t_R@1", "i2t_R@3", "t2i_R@1", "t2i_R@3"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((IMAGE_IDS.int(), TEXT_IMAGE_IDS, None), "image_ids must be int64"),
        ((IMAGE_IDS, TEXT_IMAGE_IDS[:9], None), r"text_image_ids must be .*\(10,\), not .*\(9,\)"),
        ((IMAGE_IDS, TEXT_IMAGE_IDS, TEXT_IMAGE_IDS.float()), "text_ids must be int64"),
    ],
)
def test_malformed_ids_are_refused(ids, message):
    with pytest.raises(InputError, match=message):
        BidirectionalRecall(Cosine()).update(IMAGES, TEXTS, *ids)


@pytest.mark.parametrize("head", [Cosine(), CrossAttention()])
def test_one_id_for_two_things_is_refused(head):
    metric = BidirectionalRecall(head)
    metric.update(IMAGES, TEXTS, torch.tensor([1, 2, 3, 1]), TEXT_IMAGE_IDS)
    with pytest.raises(InputError, match="photo id 1 stands for"):
        metric.compute()
    metric.reset()
    update(metric, [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 1])
    with pytest.raises(InputError, match="text id 1 stands for"):
        metric.compute()


def test_ids_for_some_texts_only_are_refused():
    metric = BidirectionalRecall(Cosine())
    update(metric, [0, 1], [0, 1], [0, 1])
    update(metric, [2, 3], [2])
    with pytest.raises(InputError, match="2 of 3 captions"):
        metric.compute()


def test_vectors_of_zero_are_no_clash():
    metric = BidirectionalRecall(Cosine())
    zero = Features.from_pooled(torch.zeros(2, 8))
    metric.update(zero, zero, torch.tensor([1, 1]), torch.tensor([1, 1]), torch.tensor([5, 5]))
    assert len(metric.gallery().images) == len(metric.gallery().texts) == 1


@pytest.mark.parametrize("head", [Cosine(), CrossAttention()])
def test_features_that_do_not_fit_wait_on_the_cpu(head, monkeypatch):
    kept = [head.select(side) for side in (IMAGES, TEXTS)]
    tensors = [t for side in kept for t in (side.tokens, side.mask, side.pooled) if t is not None]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    monkeypatch.setattr(blocks, "feature_bytes", lambda device: needed)
    fits, crowded = BidirectionalRecall(head), BidirectionalRecall(head)
    for metric, times in ((fits, 1), (crowded, 2)):  # a photo may come again
        for _ in range(times):
            metric.update(IMAGES, TEXTS, IMAGE_IDS, TEXT_IMAGE_IDS, torch.arange(10))
    assert not fits.compute_on_cpu
    assert crowded.compute_on_cpu
    assert crowded.compute() == fits.compute()
    fits.reset()
    fits.update(IMAGES, TEXTS, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert not fits.compute_on_cpu


def test_features_that_wait_elsewhere_are_handed_over_part_by_part():
    elsewhere = torch.device("cpu", 0)  # to torch another device than "cpu"
    images, texts = (
        ShardedFeatures.of(side, elsewhere, SingleProcess()) for side in (IMAGES, TEXTS)
    )
    assert images.whole() is images
    assert ShardedFeatures.of(IMAGES, IMAGES.device, SingleProcess()).whole() is IMAGES
    found = rank(Cosine(), images, texts, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert found.t2i.device.type == "cpu"
    expected = rank(Cosine(), IMAGES, TEXTS, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert found.i2t.equal(expected.i2t)
    assert found.t2i.equal(expected.t2i)
