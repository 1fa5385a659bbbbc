"""Losses of written captions, against loops over words."""

import math

import pytest
import torch
from torch.nn import functional as F

from itm_lightning.errors import InputError
from itm_lightning.objectives import SCNLM, CaptionLoss, LocalComparison
from itm_lightning.objectives.caption_vocabulary import END, START, CaptionVocabulary
from itm_lightning.objectives.word_tags import TAGS, tag_numbers, word_tag
from itm_lightning.similarity import Cosine
from itm_lightning.types import Batch, EncodedBatch, Features, Widths
from tests.made_up import made_up_features

TEXTS = ["A dog runs.", "two dogs, and a red ball", "a ball"]
WIDTHS = Widths(encoded_images=8, encoded_texts=5, images=6, texts=6)


def comparison(images=None, texts=None, encoded_images=None, captions=TEXTS):
    rows = torch.arange(len(captions))
    batch = Batch(None, list(captions), rows, rows, rows, torch.zeros(len(captions), 0).bool())
    sides = [
        side or Features.from_pooled(torch.randn(len(captions), 6)) for side in (images, texts)
    ]
    return LocalComparison(Cosine(), EncodedBatch(batch, *sides, encoded_images, None, None, None))


def learnt(objective, texts=TEXTS):
    torch.manual_seed(0)
    objective.build(WIDTHS)
    objective.learn_vocabulary(texts)
    return objective.double().eval()


def test_a_vocabulary_writes_what_it_read():
    vocabulary = CaptionVocabulary.learn(TEXTS, min_count=2, longest=5)
    assert vocabulary.words == ["a", "ball"]
    ids, mask = vocabulary.encode(["A ball, a dog, a ball", "a ball"])
    assert ids.tolist() == [[4, 5, 1, 4, END], [4, 5, END, 0, 0]]
    assert mask.sum(dim=1).tolist() == [5, 3]
    every = CaptionVocabulary.learn(TEXTS, min_count=1, longest=60)
    for text in TEXTS:
        assert every.decode(every.encode([text])[0][0].tolist()) == text.lower()
    assert every.decode([START, 4, END, 5]) == "a"


def test_tags_of_words():
    tagged = "there is a big red ring to the left of two dogs , while a man quickly jumped"
    tags = "PRON AUX DET ADJ ADJ NOUN ADP DET ADP ADP NUM NOUN , SCONJ DET NOUN ADV VERB"
    assert " ".join(map(word_tag, tagged.split())) == tags
    assert word_tag("7") == "NUM"
    assert [TAGS[number] for number in tag_numbers(["a", "thing"])] == ["DET", "NOUN"]


def test_the_caption_loss_is_that_of_a_loop_over_images_regions_and_words():
    objective = learnt(CaptionLoss(hidden=4, word_dim=3, min_count=2, longest=5))
    images = made_up_features(3, 4, dim=8, seed=3)
    images = Features(images.tokens.double(), images.mask, None)
    state, expected = objective.state_dict(), 0.0

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def gru(name, ending, x, h):
        gates = [
            F.linear(
                v, state[f"{name}.weight_{kind}{ending}"], state[f"{name}.bias_{kind}{ending}"]
            )
            for kind, v in (("ih", x), ("hh", h))
        ]
        (r, z, n), (hr, hz, hn) = (each.chunk(3) for each in gates)
        r, z = torch.sigmoid(r + hr), torch.sigmoid(z + hz)
        return (1 - z) * torch.tanh(n + r * hn) + z * h

    for image, text in enumerate(TEXTS):
        hidden, states = torch.zeros(4).double(), []
        for region in images.tokens[image][images.mask[image]]:
            hidden = gru("encoder", "_l0", linear("regions", region), hidden)
            states.append(hidden)
        before = START
        for word in objective.vocabulary.encode([text])[0][0]:
            energies = torch.stack([
                linear("attention.scorer", torch.tanh(
                    linear("attention.of_states", s) + linear("attention.of_query", hidden)
                )) for s in states
            ])  # fmt: skip
            weights = energies.exp() / energies.exp().sum()
            context = sum(w * s for w, s in zip(weights, states, strict=True))
            hidden = gru(
                "decoder", "", torch.cat([state["embedding.weight"][before], context]), hidden
            )
            logits = linear("output", hidden)
            expected -= (logits[word] - logits.exp().sum().log()).item()
            before = word
    loss = objective.loss(comparison(encoded_images=images))
    assert loss.item() == pytest.approx(expected / 3)


def test_sc_nlm_is_that_of_a_loop_over_texts_words_and_tags():
    objective = learnt(SCNLM(word_dim=4, hidden=5, factors=3, context=2, lookahead=2, longest=5))
    texts = Features.from_pooled(torch.randn(3, 6).double())
    state, expected = objective.state_dict(), 0.0
    factors, by_word = state["words.weight"], state["of_words.weight"]  # W_fvᵀ and W_fk
    for row, text in enumerate(TEXTS):
        u = texts.pooled[row] / texts.pooled[row].norm()
        ids = objective.vocabulary.encode([text])[0][0].tolist()
        tags = [*tag_numbers(text.lower().replace(".", " .").replace(",", " ,").split())[:4], 1]
        for n, word in enumerate(ids):
            hidden = state["of_content.weight"] @ u + state["of_content.bias"]
            for j in range(3):
                tag = tags[n + j] if n + j < len(tags) else 0
                hidden = hidden + state["of_tags.weight"][j * len(TAGS) + tag]
            context = torch.zeros(4).double()
            for i in (1, 2):
                before = ids[n - i] if n - i >= 0 else START
                context += state["of_context.weight"][:, :, 2 - i] @ (by_word.T @ factors[before])
            gate = state["gates.weight"] @ hidden.clamp(min=0) + state["gates.bias"]
            logits = factors @ ((by_word @ context) * gate) + state["bias"]
            expected -= (logits[word] - logits.exp().sum().log()).item()
    loss = objective.loss(comparison(texts=texts))
    assert loss.item() == pytest.approx(expected / 3)
    loss.backward()  # of its own weights alone
    assert texts.pooled.grad is None
    assert objective.of_content.weight.grad.abs().sum() > 0


def test_sc_nlm_writes_with_the_probabilities_that_it_learns():
    objective = learnt(SCNLM(word_dim=4, hidden=5, factors=3, context=2, lookahead=1))
    content = F.normalize(torch.randn(2, 6).double())
    ids, _ = objective.vocabulary.encode(["a red dog", "two dogs and"])
    tags = torch.tensor([[*tag_numbers(text.split()), 1] for text in ("a red dog", "two dogs and")])
    logits = objective.word_logits(content, ids, tags)
    logits[..., :END] = -math.inf
    following = objective.next_word(content, tags)
    for n in range(ids.shape[1]):
        written = ids[:, None, :n].expand(-1, 3, -1)  # three beams
        log_probs = following(written)
        assert log_probs.shape == (2, 3, len(objective.vocabulary))
        torch.testing.assert_close(log_probs, logits[:, [n]].log_softmax(-1).expand(-1, 3, -1))


def test_training_conditions_on_images_where_asked():
    objective = learnt(SCNLM(image_share=1.0))
    same = Features.from_pooled(torch.randn(3, 6).double())
    other = Features.from_pooled(torch.randn(3, 6).double())
    of_images = objective.loss(comparison(texts=same))
    objective.dropout.p = 0.0
    torch.testing.assert_close(objective.train().loss(comparison(same, other)), of_images)
    noisy = learnt(SCNLM(noise=0.5, dropout=0.0)).train()
    assert noisy.loss(comparison(texts=same)) != noisy.loss(comparison(texts=same))


@pytest.mark.parametrize("trains", [False, True])
def test_embeddings_have_a_gradient_where_asked(trains):
    objective = learnt(SCNLM(image_share=1.0, trains_encoders=trains)).train()
    images, texts = (Features.from_pooled(torch.randn(3, 6).double()) for _ in range(2))
    images.pooled.requires_grad_()
    objective.loss(comparison(images, texts)).backward()
    reached = images.pooled.grad is not None and images.pooled.grad.abs().sum() > 0
    assert reached == trains


def test_structures_are_drawn_as_often_as_they_occur_and_survive_a_checkpoint():
    objective = learnt(
        SCNLM(structures=2), ["a dog", "a cat", "a dog runs", "a dog", "two big dogs"]
    )
    again = SCNLM()
    again.build(WIDTHS)
    again.load_extra_state(objective.extra_state())
    again.load_state_dict(objective.state_dict())
    assert again.extra_state() == objective.extra_state()
    generator = torch.Generator().manual_seed(0)
    firsts = [again.draw_structures(1, generator).tolist()[0] for _ in range(60)]
    names = {" ".join(TAGS[number] for number in row) for row in firsts}
    assert names == {"DET NOUN END", "DET NOUN VERB END"}
    assert sum(len(row) == 3 for row in firsts) > 30  # three of four
    assert len(again.draw_structures(9, generator)) == 2


def test_two_widths_are_refused():
    with pytest.raises(InputError, match="SCNLM reads images in place of texts, but images have 4"):
        SCNLM().build(Widths(8, 5, 4, 6))
