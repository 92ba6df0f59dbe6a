"""Networks beside ours, trained by the same trainer on the same images: what they show is said where they stand."""

from experiments.frontier.others.dense import DenseConfig
from experiments.frontier.others.features import FeaturesConfig
from experiments.frontier.others.lecture import LectureConfig
from experiments.frontier.others.residual import ResidualConfig
from experiments.frontier.others.subspace import SubspaceConfig
from experiments.frontier.others.variant import VariantConfig

__all__ = ["DenseConfig", "FeaturesConfig", "LectureConfig", "ResidualConfig", "SubspaceConfig", "VariantConfig"]
