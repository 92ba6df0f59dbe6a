"""Accuracy and confusion of a network on labelled images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from cde_nets.nn.trainable import Trainable
from cde_nets.options import positive
from cde_nets.train.batches import as_intensity


class Evaluation(NamedTuple):
    """How a network did.

    Attributes:
        accuracy: right answers over all.
        confusion: how often label r was answered c, shape (classes, classes).
        failed: rows that failed in a flow, or whose logits are not all finite; they count as wrong.
    """

    accuracy: float
    confusion: Int[Tensor, "label answer"]
    failed: int


@torch.no_grad()
def evaluate(
    network: Trainable,
    images: UInt8[Tensor, "n height width"],
    labels: Int[Tensor, "n"],
    *,
    batch_size: int = 1000,
) -> Evaluation:
    """Run the network over all images, `batch_size` at a time.

    Raises:
        ValueError: no images, images and labels that differ in number, or labels that the network has no class for.
    """
    for name, value, kind in (("images", images, "uint8"), ("labels", labels, "integers")):
        integers = isinstance(value, Tensor) and not value.is_floating_point() and not value.is_complex()
        if not integers or not value.ndim or value.dtype == torch.bool:
            got = f"{value.dtype}, shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must be a tensor of {kind}; got {got}.")
    positive("batch_size", batch_size)
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"Evaluation needs as many labels as images, at least one; got {len(labels)} and {len(images)}."
        )
    answers, finite = [], 0
    thrown = [flow.throw for flow in network.flows()]
    network.set_throw(False)
    try:
        for start in range(0, len(images), batch_size):
            logits = network(as_intensity(images[start : start + batch_size]))
            good = torch.isfinite(logits).all(1) & ~network.failed
            # An answer no label has: such a row is wrong whatever it is.
            answers.append(torch.where(good, logits.argmax(1), -1))
            finite += int(good.sum())
    finally:
        for flow, throw in zip(network.flows(), thrown, strict=True):
            flow.throw = throw
    answer, classes = torch.cat(answers), logits.shape[1]
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise ValueError(
            f"labels must lie between 0 and {classes - 1}, a class each of the network's; got labels from "
            f"{int(labels.min())} to {int(labels.max())}."
        )
    known = answer >= 0
    confusion = torch.bincount(labels[known] * classes + answer[known], minlength=classes**2).reshape(classes, classes)
    return Evaluation(float((answer == labels).double().mean()), confusion.cpu(), len(images) - finite)
