"""Classes of words: scores of texts that name a relation, an attribute, a count or a negation.

The lists are short and closed, for English captions: who reads a figure can read what it counts.
The classes are those on which image–text models are known to fail (VL-CheckList, Zhao et al. 2022,
https://arxiv.org/abs/2207.00221; VALSE, Parcalabescu et al. 2022,
https://arxiv.org/abs/2112.07566).
"""

from __future__ import annotations

import re

# *In*, *on*, *at* and *with* are no relations here, since nearly every caption has one of them, and
# *one* is no count, since it is mostly a pronoun.
_LISTS = {
    "relation": """
        left right above below over under beneath underneath behind beside besides between among
        near nearby inside outside front next atop across through around along against toward
        towards into onto past facing opposite""",
    "attribute": """
        red green blue yellow purple pink white black orange brown grey gray tan beige gold golden
        silver blond blonde colorful colourful multicolored bright dark light small big large
        little tiny huge giant tall short long young old older elderly wet dry dirty muddy snowy
        sandy grassy rocky wooden striped plaid shirtless barefoot""",
    "count": """
        two three four five six seven eight nine ten eleven twelve dozen several many few multiple
        numerous both couple pair trio""",
    "negation": "no not none nothing nobody neither nor never without cannot",
}
#: The words of each class, in lower case.
WORD_CLASSES = {name: frozenset(words.split()) for name, words in _LISTS.items()}
_CLASS_OF = {word: name for name, words in WORD_CLASSES.items() for word in words}
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; ``"isn't"`` is one word."""
    return _WORD.findall(text.lower())


def word_class(word: str) -> str | None:
    """The class of one lower-case word: a key of :data:`WORD_CLASSES`, or ``None``."""
    if word.endswith(("n't", "n’t")):
        return "negation"
    return _CLASS_OF.get(word) or ("count" if word.isdecimal() and int(word) > 1 else None)


def classes_in(text: str) -> set[str]:
    """The classes of which the text has a word."""
    return {name for name in map(word_class, words_of(text)) if name is not None}
