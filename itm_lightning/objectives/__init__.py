"""Objectives: losses on the score matrix, and on features."""

from itm_lightning.objectives.base import FeatureObjective, Objective, QueryObjective
from itm_lightning.objectives.bimodal_autoencoder import BimodalAutoencoder
from itm_lightning.objectives.caption_loss import CaptionLoss
from itm_lightning.objectives.comparison import Block, Comparison, LocalComparison, Queries
from itm_lightning.objectives.corr_ae import CorrAE, CorrCrossAE, CorrFullAE
from itm_lightning.objectives.deep_cca import DeepCCA
from itm_lightning.objectives.deep_semantic_mapping import DeepSemanticMapping
from itm_lightning.objectives.diversity import Diversity
from itm_lightning.objectives.dmsh import DMSH
from itm_lightning.objectives.dscmr import DSCMR
from itm_lightning.objectives.entailment import Entailment
from itm_lightning.objectives.fashion_bert import FashionBERTLoss, adaptive_weights
from itm_lightning.objectives.infonce import InfoNCE
from itm_lightning.objectives.information_bottleneck import InformationBottleneck
from itm_lightning.objectives.match_probability import MatchProbability
from itm_lightning.objectives.mmd import MMD
from itm_lightning.objectives.sc_nlm import SCNLM
from itm_lightning.objectives.sigmoid import Sigmoid
from itm_lightning.objectives.triplet import Triplet
from itm_lightning.objectives.weakly_aligned import WeaklyAligned
from itm_lightning.objectives.weighted import WeightedSum

__all__ = [
    "DMSH",
    "DSCMR",
    "MMD",
    "SCNLM",
    "BimodalAutoencoder",
    "Block",
    "CaptionLoss",
    "Comparison",
    "CorrAE",
    "CorrCrossAE",
    "CorrFullAE",
    "DeepCCA",
    "DeepSemanticMapping",
    "Diversity",
    "Entailment",
    "FashionBERTLoss",
    "FeatureObjective",
    "InfoNCE",
    "InformationBottleneck",
    "LocalComparison",
    "MatchProbability",
    "Objective",
    "Queries",
    "QueryObjective",
    "Sigmoid",
    "Triplet",
    "WeaklyAligned",
    "WeightedSum",
    "adaptive_weights",
]
