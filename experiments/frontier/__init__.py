"""The MNIST frontier: test accuracy against trained numbers, beside honest controls and what each choice is worth."""

from experiments.frontier.command import app

__all__ = ["app"]
