"""How a language model's words become texts: beam search and sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from itm_lightning.objectives.caption_vocabulary import END, PADDING
from itm_lightning.objectives.sc_nlm import NextWord


@dataclass(frozen=True)
class Hypotheses:
    """Finished texts, several a row.

    Attributes:
        ids: ``(N, H, L)`` int64, each ending with the end, then padding.
        log_probs: ``(N, H)``, the sum of the words' log probabilities, the end's included; ``-inf``
            where a row has fewer.
    """

    ids: Tensor
    log_probs: Tensor

    @property
    def lengths(self) -> Tensor:
        """``(N, H)`` int64, the number of words, the end included."""
        return (self.ids != PADDING).sum(dim=-1)

    def normalised(self, power: float) -> Tensor:
        """``(N, H)``: the sums, divided by the length to the power; 0 leaves them, 1 is a mean."""
        return self.log_probs / self.lengths**power


def beam_search(
    next_word: NextWord, rows: int, width: int, longest: int, power: float = 1.0
) -> Hypotheses:
    """The likeliest texts, as far as keeping ``width`` beginnings at a time finds them.

    Beginnings of one length are compared by the sums of their log probabilities, finished texts of
    all lengths by :meth:`Hypotheses.normalised`.

    Args:
        next_word: gives the log probabilities of the next word.
        rows: ``N``, texts to write.
        width: beginnings kept, and hypotheses returned at most.
        longest: words of a text at most, its end included.
        power: of the length by which log probabilities are divided.
    """
    words, sums = torch.empty(rows, 1, 0, dtype=torch.int64), torch.zeros(rows, 1)
    finished: list[Tensor] = []
    ended: list[Tensor] = []
    for length in range(1, longest + 1):
        totals = sums.unsqueeze(-1) + next_word(words).cpu()
        ended.append(totals[..., END].clone())
        finished.append(F.pad(F.pad(words, (0, 1), value=END), (0, longest - length)))
        totals[..., END] = -torch.inf
        sums, best = totals.flatten(1).topk(min(width, totals[0].numel()))
        beginnings, last = best // totals.shape[-1], best % totals.shape[-1]
        words = words.take_along_dim(beginnings.unsqueeze(-1), dim=1)
        words = torch.cat([words, last.unsqueeze(-1)], dim=-1)
    every = Hypotheses(torch.cat(finished, dim=1), torch.cat(ended, dim=1))
    kept = every.normalised(power).topk(min(width, every.log_probs.shape[1])).indices
    ids = every.ids.take_along_dim(kept.unsqueeze(-1), dim=1)
    return Hypotheses(ids, every.log_probs.gather(1, kept))


def sample(
    next_word: NextWord,
    rows: int,
    count: int,
    longest: int,
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Hypotheses:
    """``count`` texts a row, drawn word by word.

    Args:
        next_word: gives the log probabilities of the next word.
        rows: ``N``.
        count: texts of each row.
        longest: words of a text at most, its end included; a text that has not ended before is
            ended there.
        generator: draws the words, on the CPU: a seed gives the same on every device.
        temperature: of the softmax that is drawn from; log probabilities are those at 1.
    """
    words = torch.empty(rows, count, 0, dtype=torch.int64)
    sums, going_on = torch.zeros(rows, count), torch.ones(rows, count, dtype=torch.bool)
    for length in range(1, longest + 1):
        log_probs = next_word(words).cpu()
        shares = (log_probs / temperature).softmax(dim=-1).flatten(0, 1)
        drawn = shares.multinomial(1, generator=generator).view(rows, count, 1)
        drawn = torch.full_like(drawn, END) if length == longest else drawn
        sums = sums + log_probs.gather(-1, drawn).squeeze(-1).masked_fill(~going_on, 0)
        words = torch.cat([words, drawn.masked_fill(~going_on.unsqueeze(-1), PADDING)], dim=-1)
        going_on = going_on & (drawn.squeeze(-1) != END)
    return Hypotheses(words, sums)
