"""Real MNIST as numpy arrays, from whatever source this machine reaches, and data of its form; no unpickling."""

from cde_nets.data.digits import load_digits
from cde_nets.data.fashion import load_fashion_mnist
from cde_nets.data.idx import read_idx, read_idx_file
from cde_nets.data.mnist import MNIST, Dataset, DataUnavailableError, load_mnist

__all__ = [
    "MNIST",
    "DataUnavailableError",
    "Dataset",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "read_idx",
    "read_idx_file",
]
