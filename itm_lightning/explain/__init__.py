"""``lightning explain``: which places of an image and which words of a text a score comes from."""

from itm_lightning.explain.explanation import METHODS, Explanation, explain
from itm_lightning.explain.inputs import RegionImage

__all__ = ["METHODS", "Explanation", "RegionImage", "explain"]
