"""Writing captions of images with a Matcher that has learnt a language model."""

from itm_lightning.captioning.search import Hypotheses, beam_search, sample
from itm_lightning.captioning.writing import Caption, write_captions

__all__ = ["Caption", "Hypotheses", "beam_search", "sample", "write_captions"]
