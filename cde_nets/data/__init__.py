"""Real MNIST as numpy arrays, from whatever source this machine reaches; no torch, no unpickling."""

from cde_nets.data.idx import read_idx, read_idx_file
from cde_nets.data.mnist import MNIST, Dataset, DataUnavailableError, load_mnist

__all__ = ["MNIST", "DataUnavailableError", "Dataset", "load_mnist", "read_idx", "read_idx_file"]
