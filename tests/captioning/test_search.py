"""Beam search and sampling, against every text that a tiny model can write."""

import itertools
import math

import pytest
import torch

from itm_lightning.captioning import beam_search, sample
from itm_lightning.objectives.caption_vocabulary import END

VOCABULARY, LONGEST = 6, 4  # the end and two words may be written


def tiny_model(rows=2, seed=0):
    """A next word that depends on the two words before it, in its own way in each row."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, VOCABULARY, VOCABULARY, VOCABULARY, generator=generator)
    logits[..., :END] = -math.inf
    table = logits.log_softmax(dim=-1)

    def next_word(words):
        before = torch.nn.functional.pad(words, (2, 0))[..., -2:]
        return table[torch.arange(rows)[:, None], before[..., 0], before[..., 1]]

    return next_word


def every_text(row, next_word):
    """All texts that may be written, and the sum of their log probabilities."""
    for length in range(LONGEST):
        for words in itertools.product((4, 5), repeat=length):
            ids, total = [*words, END], 0.0
            for n, word in enumerate(ids):
                beginning = torch.tensor(ids[:n], dtype=torch.int64).expand(2, 1, -1)
                total += next_word(beginning)[row, 0, word].item()
            yield tuple(ids), total


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_a_beam_as_wide_as_all_beginnings_finds_what_exhaustive_search_finds(power):
    next_word = tiny_model()
    found = beam_search(next_word, 2, width=15, longest=LONGEST, power=power)
    assert found.ids.shape == (2, 15, LONGEST)
    for row in range(2):
        texts = sorted(
            every_text(row, next_word), key=lambda each: -each[1] / len(each[0]) ** power
        )
        assert len(texts) == 15
        for number, (ids, total) in enumerate(texts):
            assert tuple(found.ids[row, number][: len(ids)].tolist()) == ids
            assert found.ids[row, number][len(ids) :].tolist() == [0] * (LONGEST - len(ids))
            assert found.lengths[row, number] == len(ids)
            assert found.log_probs[row, number].item() == pytest.approx(total, abs=1e-5)
        assert found.normalised(power)[row].diff().max() <= 0


def test_a_narrow_beam_is_greedy():
    next_word = tiny_model(seed=3)
    found = beam_search(next_word, 2, width=1, longest=LONGEST, power=0.0)
    for row in range(2):
        beginning, total, ended = [], 0.0, []
        for _ in range(LONGEST):
            log_probs = next_word(torch.tensor(beginning, dtype=torch.int64).expand(2, 1, -1))[
                row, 0
            ]
            ended.append(([*beginning, END], total + log_probs[END].item()))
            word = 4 + int(log_probs[4:].argmax())
            beginning, total = [*beginning, word], total + log_probs[word].item()
        ids, best = max(ended, key=lambda each: each[1])
        assert found.ids[row, 0][: len(ids)].tolist() == ids
        assert found.log_probs[row, 0].item() == pytest.approx(best, abs=1e-5)


def test_samples_come_as_often_as_they_are_probable():
    next_word, generator = tiny_model(), torch.Generator().manual_seed(0)
    found = sample(next_word, 2, 4000, LONGEST, generator)
    for row in range(2):
        texts = dict(every_text(row, next_word))
        written = [tuple(ids[ids > 0].tolist()) for ids in found.ids[row]]
        for ids, total in texts.items():
            beginning = torch.tensor(ids[:-1], dtype=torch.int64).expand(2, 1, -1)
            if len(ids) == LONGEST:  # its end is not drawn
                total -= next_word(beginning)[row, 0, END].item()
            assert written.count(ids) / 4000 == pytest.approx(math.exp(total), abs=0.04)
        for n in range(50):
            assert found.log_probs[row, n].item() == pytest.approx(texts[written[n]], abs=1e-5)
            assert found.lengths[row, n] == len(written[n])
    cold = sample(next_word, 2, 5, LONGEST, generator, temperature=1e-4)
    assert (cold.ids == cold.ids[:, :1]).all()
