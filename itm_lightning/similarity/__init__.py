"""Similarities: heads that score images against texts."""

from itm_lightning.similarity.base import (
    Additive,
    Aligning,
    ClosedForm,
    Embedding,
    InnerProductSimilarity,
    PooledSimilarity,
    Similarity,
    TokenSimilarity,
)
from itm_lightning.similarity.bilinear import Bilinear
from itm_lightning.similarity.cca import CCA
from itm_lightning.similarity.cfa import CFA
from itm_lightning.similarity.code_cosine import CodeCosine
from itm_lightning.similarity.cosine import Cosine
from itm_lightning.similarity.cross_attention import CrossAttention
from itm_lightning.similarity.cross_encoder import CrossEncoder
from itm_lightning.similarity.dot_product import DotProduct
from itm_lightning.similarity.ensemble import Ensemble
from itm_lightning.similarity.euclidean import Euclidean
from itm_lightning.similarity.fashion_bert import FashionBERT
from itm_lightning.similarity.gaussian import Gaussian
from itm_lightning.similarity.hamming import Hamming
from itm_lightning.similarity.hard_assignment import HardAssignment
from itm_lightning.similarity.hub_correction import CSLS, NNN, HubCorrection, InvertedSoftmax
from itm_lightning.similarity.joint_graph import JGRHML
from itm_lightning.similarity.lorentz import Lorentz
from itm_lightning.similarity.max_sim import MaxSim
from itm_lightning.similarity.mlp import Mlp
from itm_lightning.similarity.optimal_transport import OptimalTransport
from itm_lightning.similarity.order_embedding import OrderEmbedding
from itm_lightning.similarity.pls import PLS
from itm_lightning.similarity.posterior_cosine import PosteriorCosine
from itm_lightning.similarity.scaled_cosine import ScaledCosine
from itm_lightning.similarity.semantic_matching import SemanticMatching
from itm_lightning.similarity.sgraf.saf import SAF
from itm_lightning.similarity.sgraf.sgr import SGR
from itm_lightning.similarity.sgraf.state import from_sgraf_state
from itm_lightning.similarity.smooth_chamfer import SmoothChamfer
from itm_lightning.similarity.transformer_matching import TransformerMatching

__all__ = [
    "CCA",
    "CFA",
    "CSLS",
    "JGRHML",
    "NNN",
    "PLS",
    "SAF",
    "SGR",
    "Additive",
    "Aligning",
    "Bilinear",
    "ClosedForm",
    "CodeCosine",
    "Cosine",
    "CrossAttention",
    "CrossEncoder",
    "DotProduct",
    "Embedding",
    "Ensemble",
    "Euclidean",
    "FashionBERT",
    "Gaussian",
    "Hamming",
    "HardAssignment",
    "HubCorrection",
    "InnerProductSimilarity",
    "InvertedSoftmax",
    "Lorentz",
    "MaxSim",
    "Mlp",
    "OptimalTransport",
    "OrderEmbedding",
    "PooledSimilarity",
    "PosteriorCosine",
    "ScaledCosine",
    "SemanticMatching",
    "Similarity",
    "SmoothChamfer",
    "TokenSimilarity",
    "TransformerMatching",
    "from_sgraf_state",
]
