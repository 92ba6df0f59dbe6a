"""Training runs, checkpoints and evaluation."""

from cde_nets.train.checkpoint import load_network, save_network
from cde_nets.train.config import TrainConfig
from cde_nets.train.eigenbasis import EigenbasisAdam
from cde_nets.train.evaluate import Evaluation, evaluate
from cde_nets.train.processes import Processes, together
from cde_nets.train.progress import ProgressBar
from cde_nets.train.run import Run
from cde_nets.train.tensorboard import TensorBoard
from cde_nets.train.trainer import InterruptedTraining, Reporter, Trainer

__all__ = [
    "EigenbasisAdam",
    "Evaluation",
    "InterruptedTraining",
    "Processes",
    "ProgressBar",
    "Reporter",
    "Run",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "evaluate",
    "load_network",
    "save_network",
    "together",
]
