"""Tags of words by closed lists and endings: the structure of a caption, without a tagger's data.

The closed classes of English are listed; colours, sizes and materials, which captions are full of,
are listed as adjectives; everything else is told by its ending, and is a noun where that says
nothing. The tags are those of Universal Dependencies (de Marneffe et al. 2021), with each
punctuation mark a tag of its own. A word has one tag, wherever it stands.
"""

from __future__ import annotations

_LISTS = {
    "DET": "a an the this that these those each every some any no another both all",
    "ADP": """
        of in on at with by for from to into onto over under above below beneath underneath behind
        beside besides between among near inside outside across through around along against toward
        towards past up down off out during without like atop next left right""",
    "PRON": """
        i you he she it we they him her them his its their who whom which what there someone
        something one other others himself herself itself themselves""",
    "AUX": "is are was were be been being has have had do does did can could will would may",
    "VERB": """
        sits lies stands runs plays jumps walks holds looks wears rides leaps swims climbs see sit
        lie stand run play jump walk hold look wear ride""",
    "CCONJ": "and or but",
    "SCONJ": "while as because if than when where after before until",
    "PART": "not n't 's",
    "NUM": """
        two three four five six seven eight nine ten eleven twelve several many few couple""",
    "ADV": "then very well too also together away here now again just almost",
    "ADJ": """
        red green blue yellow purple pink white black orange brown grey gray tan beige gold silver
        blond blonde bright dark light plain small little big large tiny huge tall short long young
        old elderly wet dry muddy snowy sandy grassy rocky wooden striped same""",
}
_ENDINGS = {
    "ing": "VERB",
    "ed": "VERB",
    "ly": "ADV",
    **dict.fromkeys(("ous", "ful", "less", "ish", "ive", "able", "ible", "al", "ic"), "ADJ"),
}
_TAG_OF = {word: tag for tag, words in _LISTS.items() for word in words.split()}
_SHORTEST = 6  # letters of a word whose ending counts: "thing" is none of "-ing"
_MARKS = ".,:;!?-'\"()"

PADDING_TAG, END_TAG = 0, 1
TAGS = ("", "END", "NOUN", *_LISTS, *_MARKS)
"""All tags; a row of tags starts with what stands beyond the end of a text, and its end."""
_NUMBER_OF = {tag: number for number, tag in enumerate(TAGS)}


def word_tag(word: str) -> str:
    """The tag of one lower-case word or punctuation mark: one of :data:`TAGS`."""
    if word in _TAG_OF:
        return _TAG_OF[word]
    if word in _NUMBER_OF:
        return word
    if word.isdecimal():
        return "NUM"
    endings = (tag for ending, tag in _ENDINGS.items() if word.endswith(ending))
    return next(endings, "NOUN") if len(word) >= _SHORTEST else "NOUN"


def tag_numbers(words: list[str]) -> list[int]:
    """The numbers in :data:`TAGS` of words' tags."""
    return [_NUMBER_OF[word_tag(word)] for word in words]
