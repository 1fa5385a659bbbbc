import copy
import sys

import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.ranking import rank, ranks_from_scores
from itm_lightning.ranking.blocks import length_groups
from itm_lightning.similarity import (
    Bilinear,
    Cosine,
    CrossAttention,
    OptimalTransport,
    PooledSimilarity,
)
from itm_lightning.similarity.unit_tokens import UnitTokenSimilarity
from itm_lightning.types import Features
from tests.made_up import golden, made_up_features
from tests.similarity.heads import HEADS

IMAGE_IDS = torch.tensor([40, 10, 30, 99, 20])  # 99 has no caption
TEXT_IMAGE_IDS = torch.tensor([10, 30, 10, 20, 40, 30, 10, 20, 30, 30])


class Table(PooledSimilarity):
    """Looks scores up: the pooled "vectors" are row and column numbers."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.as_tensor(table, dtype=torch.float32)
        self.asked = []

    def score(self, images, texts):
        rows, columns = images.pooled[:, 0].long(), texts.pooled[:, 0].long()
        self.asked += [(int(i), int(j)) for i in rows for j in columns]
        return self.table[rows][:, columns]

    def sides(self):
        n, m = self.table.shape
        return (Features.from_pooled(torch.arange(size).float()[:, None]) for size in (n, m))


def slow_ranks(scores, image_ids, text_image_ids):
    i2t, t2i = [], []
    for i, image in enumerate(image_ids.tolist()):
        own = [float(scores[i, j]) for j, p in enumerate(text_image_ids.tolist()) if p == image]
        others = [float(scores[i, j]) for j, p in enumerate(text_image_ids.tolist()) if p != image]
        if own:
            i2t.append(1 + sum(score >= max(own) for score in others))
    for j, image in enumerate(text_image_ids.tolist()):
        own = float(scores[image_ids.tolist().index(image), j])
        others = [float(scores[i, j]) for i, p in enumerate(image_ids.tolist()) if p != image]
        t2i.append(1 + sum(score >= own for score in others))
    return i2t, t2i


def random_table(levels):
    """Few levels make many ties."""
    generator = torch.Generator().manual_seed(levels)
    return torch.randint(levels, (5, 10), generator=generator).float()


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
@pytest.mark.parametrize("block_elements", [1, 8, 20, 2**24])
def test_ranks_equal_the_obvious_loop_in_any_blocks(levels, block_elements):
    head = Table(random_table(levels))
    ranks = rank(head, *head.sides(), IMAGE_IDS, TEXT_IMAGE_IDS, block_elements=block_elements)
    assert (ranks.i2t.tolist(), ranks.t2i.tolist()) == slow_ranks(
        head.table, IMAGE_IDS, TEXT_IMAGE_IDS
    )
    assert ranks.i2t.dtype == ranks.t2i.dtype == torch.int64


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_ranks_from_a_matrix_equal_the_obvious_loop(levels):
    scores = random_table(levels)
    ranks = ranks_from_scores(scores, IMAGE_IDS, TEXT_IMAGE_IDS)
    expected = slow_ranks(scores, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert (ranks.i2t.tolist(), ranks.t2i.tolist()) == expected


def test_ranks_by_hand():
    head = Table([[5, 1, 9], [5, 2, 3]])  # captions 0 and 1 belong to photo 0, caption 2 to photo 1
    ranks = rank(head, *head.sides(), torch.tensor([0, 1]), torch.tensor([0, 0, 1]))
    assert ranks.i2t.tolist() == [2, 2]  # 9 beats 5; 5 beats 3, and 2 does not
    assert ranks.t2i.tolist() == [2, 2, 2]  # a tie at 5; 2 beats 1; 9 beats 3


def test_every_pair_is_scored_exactly_once():
    head = Table(random_table(4))
    rank(head, *head.sides(), IMAGE_IDS, TEXT_IMAGE_IDS, block_elements=8)
    assert sorted(head.asked) == [(i, j) for i in range(5) for j in range(10)]


def test_ties_all_count_against_the_model():
    head = Table(torch.zeros(5, 10))
    ranks = rank(head, *head.sides(), IMAGE_IDS, TEXT_IMAGE_IDS)
    assert ranks.t2i.tolist() == [5] * 10
    assert ranks.i2t.tolist() == [10, 8, 7, 9]  # 1 + the captions of others


@pytest.mark.parametrize("place", [(3, 0), (1, 0), (0, 1)])
def test_nan_names_the_head(place):
    table = random_table(4)
    table[place] = torch.nan
    head = Table(table)
    with pytest.raises(InputError, match="Table gave a NaN"):
        rank(head, *head.sides(), IMAGE_IDS, TEXT_IMAGE_IDS, block_elements=8)
    with pytest.raises(InputError, match="NaN"):
        ranks_from_scores(table, IMAGE_IDS, TEXT_IMAGE_IDS)


@pytest.mark.parametrize(
    ("image_ids", "text_image_ids", "message"),
    [
        ([4, 4], [4, 4], "photo id 4 stands twice"),
        ([4, 5], [5, 6], "id 6, is not among"),
        ([4, 5], [5, 3], "id 3, is not among"),
        ([4, 5], [], "2 photos, 0 captions"),
        ([], [5], "0 photos, 1 captions"),
    ],
)
def test_ids_that_do_not_fit_are_refused(image_ids, text_image_ids, message):
    all_ids = [torch.tensor(ids, dtype=torch.int64) for ids in (image_ids, text_image_ids)]
    images, texts = (Features.from_pooled(torch.ones(len(ids), 8)) for ids in all_ids)
    with pytest.raises(InputError, match=message):
        rank(Cosine(), images, texts, *all_ids)


@pytest.mark.parametrize(
    "head", [Cosine(), Bilinear(8, 3), CrossAttention("t2i"), CrossAttention("i2t")]
)
def test_real_heads_rank_the_same_in_any_blocks(head):
    images, texts = made_up_features(5, 6, seed=1), made_up_features(10, 4, seed=2)
    expected = slow_ranks(head(images, texts).detach(), IMAGE_IDS, TEXT_IMAGE_IDS)
    for block_elements in (1, 200, 2**24):
        ranks = rank(head, images, texts, IMAGE_IDS, TEXT_IMAGE_IDS, block_elements=block_elements)
        assert (ranks.i2t.tolist(), ranks.t2i.tolist()) == expected


def test_images_are_prepared_once_and_texts_twice():
    class Counting(Cosine):
        prepared = 0

        def prepare_images(self, images):
            self.prepared += len(images)
            return super().prepare_images(images)

        def prepare_texts(self, texts):
            self.prepared += len(texts)
            return super().prepare_texts(texts)

    head = Counting()
    images, texts = made_up_features(5, 6), made_up_features(10, 4)
    rank(head, images, texts, IMAGE_IDS, TEXT_IMAGE_IDS, block_elements=8)
    assert head.prepared == 5 + 2 * 10  # with their photos, and with all others


def test_blocks_come_in_full_precision_and_without_needless_padding():
    class Watching(CrossAttention):
        def prepare_texts(self, texts):
            assert texts.mask.any(dim=0).all()
            assert texts.tokens.dtype == torch.float32
            return super().prepare_texts(texts)

        def score(self, images, texts):
            assert not torch.is_autocast_enabled("cpu")
            return super().score(images, texts)

    images, texts = made_up_features(5, 6), made_up_features(10, 4)
    half = Features(texts.tokens.bfloat16(), texts.mask, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rank(Watching(), images, half, IMAGE_IDS, TEXT_IMAGE_IDS, block_elements=100)


def test_progress_is_shown_where_it_takes_long(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a log gets a line a minute
    images, texts = made_up_features(5, 6), made_up_features(10, 4)
    rank(Cosine(), images, texts, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("itm_lightning.ranking.block_scorer._SECONDS_UNTIL_BAR", 0)
    rank(Cosine(), images, texts, IMAGE_IDS, TEXT_IMAGE_IDS)
    assert "scoring" in capsys.readouterr().err
    rank(Cosine(), images, texts, IMAGE_IDS, TEXT_IMAGE_IDS, progress=False)
    assert capsys.readouterr().err == ""


def test_texts_are_scored_in_groups_of_like_length():
    seen = []

    class Watching(CrossAttention):
        def score(self, images, texts):
            seen.append(texts.mask.sum(dim=1))
            return super().score(images, texts)

    images, texts = made_up_features(60, 3), made_up_features(180, 40)
    image_ids = torch.arange(60)
    rank(Watching(), images, texts, image_ids, image_ids.repeat_interleave(3))
    padded = sum(len(lengths) * int(lengths.max()) for lengths in seen)
    real = sum(int(lengths.sum()) for lengths in seen)
    assert padded < 1.15 * real  # in one group it is about twice as much


def test_a_group_of_texts_ends_where_their_length_changes():
    lengths = torch.arange(8, 18).repeat(50)
    assert length_groups(lengths) == [50] * 10
    assert length_groups(torch.full((160,), 12)) == [20] * 8
    assert length_groups(torch.tensor([9] * 100 + [10] * 3 + [60])) == [13] * 4 + [12] * 4 + [4]
    assert length_groups(torch.tensor([3, 3, 9])) == [3]
    drawn = torch.randint(0, 40, (333,), generator=torch.Generator().manual_seed(0))
    assert sum(length_groups(drawn)) == 333
    assert max(length_groups(drawn)) <= 42


def test_equals_the_published_ranks():
    data = golden("recall")
    images, texts = (Features.from_pooled(data[side]) for side in ("images", "captions"))
    ranks = rank(
        Cosine(), images, texts, torch.arange(200), torch.arange(1000) // 5, block_elements=9000
    )
    assert (ranks.i2t - 1).tolist() == data["i2t_ranks"].tolist()
    assert (ranks.t2i - 1).tolist() == data["t2i_ranks"].tolist()


class Transposed(Cosine):
    """A head that returns texts by images."""

    def score(self, images, texts):
        return super().score(images, texts).T


def test_scores_of_another_shape_name_the_head():
    sides = (Features.from_pooled(torch.randn(n, 4)) for n in (2, 3))
    with pytest.raises(InputError, match=r"Transposed.score gave \(3, 2\), not .* \(2, 3\)"):
        rank(Transposed(), *sides, torch.arange(2), torch.tensor([0, 0, 1]))


@pytest.mark.parametrize(
    "name", [name for name, head in HEADS.items() if isinstance(head, UnitTokenSimilarity)]
)
def test_a_compiled_head_ranks_the_same_and_compiles_for_two_blocks_at_most(name):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    lengths = 2 + torch.arange(192).unsqueeze(1) % 5
    mask = torch.arange(6) < lengths
    images = Features.from_tokens(torch.randn(70, 5, 8))
    texts = Features.from_tokens(torch.randn(192, 6, 8), mask)
    ids, owners = torch.arange(70), torch.arange(192) % 70
    plain, head = HEADS[name], copy.deepcopy(HEADS[name])
    torch.compiler.reset()
    head.compile(dynamic=True, backend=backend)
    with torch.no_grad():
        for n, m in ((20, 30), (21, 17)):
            head(images[:n], texts[:m])
    until_then = len(compiled)
    expected, found = (rank(h, images, texts, ids, owners) for h in (plain, head))
    assert found.t2i.equal(expected.t2i)
    assert found.i2t.equal(expected.i2t)
    assert until_then == len(compiled)
    assert compiled or isinstance(head, OptimalTransport)  # whose loop is left alone
