"""The MNIST frontier: test accuracy against trained numbers, beside honest controls and what each choice is worth.

Subject: MNIST
Source: Cuchiero, lecture 2, consequences for training
"""

from experiments.frontier.command import app

__all__ = ["app"]
