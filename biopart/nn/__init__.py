"""Network parts for grids with any number of axes."""

from biopart.nn.classifier import Classifier
from biopart.nn.normalise import Normalise
from biopart.nn.relative import CrossAttention, JointMlp, PairwiseMlp, relative_encoder
from biopart.nn.timm_names import from_timm
from biopart.nn.vit import ViT

__all__ = [
    "Classifier",
    "CrossAttention",
    "JointMlp",
    "Normalise",
    "PairwiseMlp",
    "ViT",
    "from_timm",
    "relative_encoder",
]
