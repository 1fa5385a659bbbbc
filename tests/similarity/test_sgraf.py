import pytest
import torch

from itm_lightning.errors import InputError
from itm_lightning.similarity import SAF, SGR, CrossAttention, from_sgraf_state
from itm_lightning.types import Features
from tests.made_up import golden, made_up_features
from tests.reference.scan_loop import scan_scores
from tests.reference.sgraf_loop import made_up_state, saf_scores, sgr_scores

HEADS = {"SGR": (SGR, sgr_scores), "SAF": (SAF, saf_scores)}


@pytest.fixture(params=HEADS)
def name(request):
    return request.param


def with_state(name, state, dim, sim_dim, **arguments):
    head = HEADS[name][0](dim, sim_dim, **arguments).eval()
    head.load_state_dict(from_sgraf_state(state))
    return head.to(next(iter(state.values())).dtype)


def loop_scores(name, images, texts, state):
    return HEADS[name][1](images.tokens, texts.tokens, texts.mask.sum(dim=1), state)


def unit_features(n, length, dim, seed, ragged=True):
    features = made_up_features(n, length, dim, seed, ragged)
    tokens = torch.nn.functional.normalize(features.tokens.double(), dim=-1)
    return Features.from_tokens(tokens, features.mask)


class TestPublishedImplementation:
    @pytest.fixture
    def data(self, name):
        return golden(f"sgraf_{name.lower()}")

    @pytest.fixture
    def state(self, data):
        return {k.removeprefix("state."): v for k, v in data.items() if k.startswith("state.")}

    def test_gives_these_scores(self, name, data, state):
        golden_texts, lengths = data["captions"], data["caption_lengths"]
        mask = torch.arange(golden_texts.shape[1]) < lengths[:, None]
        images, texts = (
            Features.from_tokens(data["images"]),
            Features.from_tokens(golden_texts, mask),
        )
        scores = with_state(name, state, dim=64, sim_dim=32)(images, texts)
        torch.testing.assert_close(scores, data["scores"], atol=1e-5, rtol=0)

    def test_the_loop_gives_them_too(self, name, data, state):
        loop = HEADS[name][1]
        scores = loop(data["images"], data["captions"], data["caption_lengths"], state)
        torch.testing.assert_close(scores, data["scores"], atol=1e-5, rtol=0)


class TestLoop:
    """In float64, in which nothing but the formulas can differ."""

    @pytest.fixture
    def images(self):
        return unit_features(4, 36, 24, seed=1, ragged=False)

    @pytest.fixture
    def texts(self):
        return unit_features(7, 6, 24, seed=2)

    @pytest.mark.parametrize("steps", [1, 2])
    def test_ours_equals_it(self, name, steps, images, texts):
        state = made_up_state(name, 24, 16, steps=steps)
        head = with_state(name, state, 24, 16, **({"steps": steps} if name == "SGR" else {}))
        scores = loop_scores(name, images, texts, state)
        assert scores.std() > 1e-3
        torch.testing.assert_close(head(images, texts), scores, atol=1e-7, rtol=0)

    def test_ours_has_its_gradients(self, name, images, texts):
        state = made_up_state(name, 24, 16)
        head = with_state(name, state, 24, 16)
        sides = [side.tokens.requires_grad_() for side in (images, texts)]
        loop = loop_scores(name, images, texts, state)
        weights = torch.randn(loop.shape, generator=torch.Generator().manual_seed(3))
        expected = torch.autograd.grad((weights * loop).sum(), sides)
        found = torch.autograd.grad((weights * head(images, texts)).sum(), sides)
        for ours, theirs, tokens in zip(found, expected, sides, strict=True):
            # ours also scales the tokens to length 1: what would lengthen them is taken off
            along = (theirs * tokens).sum(dim=-1, keepdim=True) * tokens
            torch.testing.assert_close(ours, (theirs - along).detach(), atol=1e-7, rtol=1e-5)

    @pytest.mark.parametrize("direction", ["t2i", "i2t"])
    def test_cross_attention_equals_that_of_scan(self, direction, images, texts):
        head = CrossAttention(direction, temperature=7.0, lse_temperature=3.0)
        lengths = texts.mask.sum(dim=1)
        scores = scan_scores(images.tokens, texts.tokens, lengths, direction, 7.0, 3.0)
        torch.testing.assert_close(head(images, texts), scores, atol=1e-7, rtol=0)


def test_a_image_with_fewer_regions_uses_the_first_statistics(name):
    state = made_up_state(name, 8, 4, regions=5)
    head = with_state(name, state, 8, 4, regions=5)
    images, texts = unit_features(3, 3, 8, 1, ragged=False), unit_features(2, 4, 8, 2)
    first = {k: v[:3] if "embedding_local.1" in k and "v_" in k else v for k, v in state.items()}
    scores = loop_scores(name, images, texts, first)
    torch.testing.assert_close(head(images, texts), scores, atol=1e-7, rtol=0)


def test_words_and_gaps_may_alternate(name):
    images, texts = made_up_features(3, 5, seed=1), made_up_features(2, 3, seed=2, ragged=False)
    head = HEADS[name][0](8, 4).eval()
    tokens = torch.stack([texts.tokens, torch.full_like(texts.tokens, torch.nan)], dim=2)
    gaps = Features(tokens.flatten(1, 2), torch.tensor([[True, False] * 3] * 2), None)
    torch.testing.assert_close(head(images, gaps), head(images, texts))


def test_a_text_without_words_and_a_image_without_regions_have_scores(name):
    images, texts = made_up_features(3, 5, seed=1), made_up_features(4, 3, seed=2)
    images.mask[1], texts.mask[2] = False, False
    assert HEADS[name][0](8, 4).eval()(images, texts).isfinite().all()


def test_too_many_regions_are_refused_with_the_mend(name):
    head = HEADS[name][0](8, 4, regions=3)
    with pytest.raises(InputError, match=r"\(regions=3\) got an image of 5 regions: set regions"):
        head(made_up_features(2, 5), made_up_features(2, 4))


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="steps is 0; it must be at least 1"):
        SGR(8, steps=0)


def test_other_parameters_than_the_authors_are_refused():
    with pytest.raises(InputError, match=r"'img_enc\.fc\.weight' is no parameter of SGRAF"):
        from_sgraf_state({"img_enc.fc.weight": torch.zeros(1)})


@pytest.mark.parametrize("n", [1, 4])
def test_learns_even_from_a_single_image(name, n):
    torch.manual_seed(0)
    head = HEADS[name][0](8, 4, regions=5).train()
    images, texts = made_up_features(n, 5, seed=1), made_up_features(n, 3, seed=2)
    head(images, texts).sum().backward()
    gradients = {k: p.grad for k, p in head.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert gradients["local_similarity.weight"].abs().sum() > 0


def test_in_training_all_pairs_share_the_statistics_of_saf():
    torch.manual_seed(0)
    head, seen = SAF(8, 4, regions=5).train(), []
    head.significance.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    images, texts = made_up_features(3, 5, seed=1), made_up_features(2, 4, seed=2)
    head(images, texts)
    real = torch.cat([torch.ones(2, 1, dtype=torch.bool), texts.mask], dim=1)
    logits = seen[0].detach().squeeze(-1)[:, real]
    norm = head.significance_norm
    torch.testing.assert_close(norm.running_mean, 0.1 * logits.mean().view(1))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * logits.var().view(1))


def test_blocks_are_chosen_by_the_similarity_vectors():
    assert SGR(1024).pair_elements(regions=36, words=12, dim=1024) == 13 * 256
    assert SAF(8, sim_dim=2).pair_elements(regions=36, words=12, dim=8) == 36 * 12
