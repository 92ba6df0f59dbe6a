"""Answers that are asked for again and again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

Answer = TypeVar("Answer")


def remembered(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """A function of hashable arguments that remembers its last 256 answers.

    Under torch.compile it is the function itself, which is traced once; a cache would be looked through with a warning.
    """
    cached = functools.lru_cache(maxsize=256)(function)

    @functools.wraps(function)
    def ask(*args: Hashable) -> Answer:
        return function(*args) if torch.compiler.is_compiling() else cached(*args)

    return ask
