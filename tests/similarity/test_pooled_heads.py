import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import Bilinear, Cosine, PosteriorCosine
from itm_lightning.types import Features


def pooled(*rows):
    return Features.from_pooled(torch.tensor(rows, dtype=torch.float32))


def test_cosine_by_hand():
    scores = Cosine()(pooled([3, 4], [0, 2]), pooled([1, 0], [-3, -4], [0, 0]))
    torch.testing.assert_close(scores, torch.tensor([[0.6, -1.0, 0.0], [0.0, -0.8, 0.0]]))


def test_bilinear_starts_as_the_cosine():
    images, texts = pooled([3, 4], [0, 2]), pooled([1, 0], [-3, -4])
    torch.testing.assert_close(Bilinear(2)(images, texts), Cosine()(images, texts))
    torch.testing.assert_close(Bilinear(2, rank=2)(images, texts), Cosine()(images, texts))


def test_bilinear_by_hand():
    head = Bilinear(2)
    head.image_weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    score = head(pooled([3, 4]), pooled([0, 5]))  # (.6, .8) W (0, 1)
    torch.testing.assert_close(score, torch.tensor([[4.4]]))


def test_low_rank_is_the_full_form_of_its_product():
    low, full = Bilinear(6, rank=2), Bilinear(6)
    torch.nn.init.normal_(low.image_weight)
    torch.nn.init.normal_(low.text_weight)
    full.image_weight.data = low.image_weight.data @ low.text_weight.data.T
    images, texts = (Features.from_pooled(torch.randn(n, 6)) for n in (3, 4))
    torch.testing.assert_close(low(images, texts), full(images, texts))
    assert sum(p.numel() for p in low.parameters()) == 2 * 6 * 2


def test_low_rank_starts_as_the_identity_in_expectation():
    torch.manual_seed(0)
    products = [h.image_weight @ h.text_weight.T for h in (Bilinear(4, rank=2) for _ in range(800))]
    torch.testing.assert_close(torch.stack(products).mean(0), torch.eye(4), atol=0.1, rtol=0)


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_cannot_be_is_refused(rank):
    with pytest.raises(InputError, match=f"dim=4, not {rank}"):
        Bilinear(4, rank=rank)


def test_features_of_another_width_are_refused_with_the_mend():
    with pytest.raises(InputError, match=r"Bilinear\(dim=4\) got vectors of width 2: set dim"):
        Bilinear(4)(pooled([1, 2]), pooled([3, 4]))


def test_posterior_cosine_by_hand():
    """Posteriors (1/2, 1/4, 1/4) and (1/4, 1/4, 1/2): 5/16 over 6/16."""
    image, text = (pooled(row).map(torch.log) for row in ([2, 1, 1], [3, 3, 6]))
    assert PosteriorCosine()(image, text).item() == pytest.approx(5 / 6)
