"""Network parts for grids with any number of axes."""

from biopart.nn.about import About
from biopart.nn.building import build_encoder
from biopart.nn.classifier import Classifier
from biopart.nn.encoder import Encoder
from biopart.nn.model import Model
from biopart.nn.normalise import Normalise
from biopart.nn.relative import CrossAttention, JointMlp, PairwiseMlp, relative_encoder
from biopart.nn.timm_names import from_timm
from biopart.nn.vit import ViT

__all__ = [
    "About",
    "Classifier",
    "CrossAttention",
    "Encoder",
    "JointMlp",
    "Model",
    "Normalise",
    "PairwiseMlp",
    "ViT",
    "build_encoder",
    "from_timm",
    "relative_encoder",
]
