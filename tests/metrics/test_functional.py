import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.metrics import recall_from_ranks, retrieval_recall
from tests.made_up import golden


def test_by_hand():
    table = recall_from_ranks(torch.tensor([1, 6]), torch.tensor([1, 2, 5, 12]))
    assert {key: float(value) for key, value in table.items()} == {
        "i2t_R@1": 50, "i2t_R@5": 50, "i2t_R@10": 100, "i2t_medr": 3, "i2t_meanr": 3.5,
        "t2i_R@1": 25, "t2i_R@5": 75, "t2i_R@10": 75, "t2i_medr": 3, "t2i_meanr": 5,
        "rsum": 375,
    }  # fmt: skip


def test_values_are_exact_scalars_for_the_log():
    table = recall_from_ranks(torch.tensor([1, 2, 3]), torch.tensor([2, 2, 1]))
    assert all(value.dtype == torch.float64 and value.shape == () for value in table.values())
    assert float(table["t2i_R@1"]) == 100 / 3


def test_rsum_sums_what_there_is_of_1_5_and_10():
    table = recall_from_ranks(torch.tensor([1, 6]), torch.tensor([1, 12]), ks=(1, 10, 20))
    assert list(table)[:3] == ["i2t_R@1", "i2t_R@10", "i2t_R@20"]
    assert float(table["rsum"]) == 50 + 100 + 50 + 50


def test_equals_the_published_implementation():
    data = golden("recall")
    scores = data["images"] @ data["captions"].T
    table = retrieval_recall(scores, torch.arange(200), torch.arange(1000) // 5)
    for way in ("i2t", "t2i"):
        names = ("R@1", "R@5", "R@10", "medr", "meanr")
        ours = [float(table[f"{way}_{name}"]) for name in names]
        assert ours == pytest.approx(data[way].tolist(), abs=1e-9)
    assert float(table["rsum"]) == pytest.approx(
        float(data["i2t"][:3].sum() + data["t2i"][:3].sum())
    )


def test_nan_is_refused():
    with pytest.raises(InputError, match="NaN"):
        retrieval_recall(torch.tensor([[torch.nan]]), torch.tensor([1]), torch.tensor([1]))
