import torch

from itm_lightning.similarity import Hamming
from itm_lightning.types import Features


def test_equals_counting_the_bits_that_differ():
    images, texts = torch.randn(5, 40), torch.randn(6, 40)
    scores = Hamming().eval()(Features.from_pooled(images), Features.from_pooled(texts))
    for i in range(5):
        for j in range(6):
            bits = [int(v >= 0) ^ int(t >= 0) for v, t in zip(images[i], texts[j], strict=True)]
            assert scores[i, j].item() == -sum(bits)


def test_zero_is_a_bit_like_any_other():
    zero, one = (Features.from_pooled(torch.tensor([[x, -1.0]])) for x in (0.0, 5.0))
    assert Hamming().eval()(zero, one).item() == 0


def test_training_relaxes_what_evaluation_counts():
    images, texts = (Features.from_pooled(torch.randn(n, 16)) for n in (3, 4))
    head = Hamming()
    sure = [Features.from_pooled(side.pooled * 1e4) for side in (images, texts)]
    torch.testing.assert_close(head(*sure), head.eval()(images, texts))
    half = Features.from_pooled(torch.full((1, 1), 0.5).atanh())
    assert head.train()(half, half).item() == (0.25 - 1) / 2


def test_training_draws_codes_that_differ_together():
    vectors = torch.tensor([[0.3, -0.2]], requires_grad=True)
    texts = Features.from_pooled(torch.tensor([[2.0, 2.0]]))
    Hamming()(Features.from_pooled(vectors), texts).sum().backward()
    assert (vectors.grad > 0).all()
