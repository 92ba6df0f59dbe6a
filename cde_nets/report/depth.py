"""Test images on their way through a trained network: their channels after every step, and what they would answer."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cde_nets.nn.network import Network
from cde_nets.nn.readout import ChannelMeanReadout
from cde_nets.plot.images import image_states
from cde_nets.train.batches import as_intensity

# Of the page: so many images that were answered right, and so many that were not.
RIGHT, WRONG = 10, 10
_AT_ONCE = 1000


@dataclass(frozen=True)
class Answers:
    """What the network says of every test image.

    Attributes:
        logits: shape (images, classes).
        answer: the largest logit's place; -1 where a row failed.
    """

    logits: Float[Tensor, "n classes"]
    answer: Int[Tensor, "n"]


@torch.no_grad()
def answers(network: Network, images: UInt8[Tensor, "n height width"]) -> Answers:
    """Run the network over all images; rows that fail have no answer."""
    logits, failed = [], []
    for some in images.split(_AT_ONCE):
        found = network(as_intensity(some))
        logits.append(found)
        failed.append(network.failed | ~torch.isfinite(found).all(1))
    whole = torch.cat(logits)
    return Answers(whole, torch.where(torch.cat(failed), -1, whole.argmax(1)))


def chosen(found: Answers, labels: Int[Tensor, "n"]) -> list[int]:
    """Which images the page shows: the first right one of each class, then the mistakes that were made most surely.

    The surest mistakes say more of a network than the closest calls: nothing in the image held it back.
    """
    right = found.answer == labels
    classes = [torch.nonzero(right & (labels == c)).flatten() for c in range(found.logits.shape[1])]
    first = [int(places[0]) for places in classes if len(places)][:RIGHT]
    wrong = torch.nonzero(~right & (found.answer >= 0)).flatten()
    sure = found.logits[wrong].max(1).values - found.logits[wrong, labels[wrong]]
    return first + wrong[sure.argsort(descending=True)[:WRONG]].tolist()


@torch.no_grad()
def depth(
    network: Network,
    images: UInt8[Tensor, "n height width"],
    labels: Int[Tensor, "n"],
    answer: Int[Tensor, "n"],
    numbers: list[int],
) -> dict[str, Any]:
    """The states of some images after the lift and every step, as bytes, and the logits that they would give there.

    Args:
        network: of `image_network`, on the CPU.
        images: those that are shown.
        labels: theirs.
        answer: theirs, by the network.
        numbers: their places in the test set.

    Raises:
        ValueError: a network without channels that are read by their means.
    """
    if not isinstance(network.readout, ChannelMeanReadout):
        raise ValueError(f"The report shows means of channels; the readout is a {type(network.readout).__name__}.")
    states, titles = image_states(network, as_intensity(images))
    scale, classes = float(network.readout.scale), network.readout.classes
    # A few large values would leave all others pale: the deepest colours are for the largest in a thousand.
    limits = [float(state.abs().flatten().quantile(0.999)) or 1.0 for state in states]
    logits = torch.stack([scale * state.mean((2, 3))[:, :classes] for state in states], 1)
    return {
        "titles": [title.replace("\n", ", ") for title in titles],
        "sizes": [list(state.shape[2:]) for state in states],
        "classes": classes,
        "side": images.shape[1],
        "images": [
            {
                "number": numbers[row],
                "label": int(labels[row]),
                "answer": int(answer[row]),
                "pixels": _packed(images[row]),
                "logits": [[float(f"{value:.4g}") for value in step] for step in logits[row].tolist()],
                "states": [
                    _packed(_shades(state[row, :classes], limit)) for state, limit in zip(states, limits, strict=True)
                ],
            }
            for row in range(len(images))
        ],
    }


def _shades(state: Tensor, limit: float) -> Tensor:
    """Bytes: 0 for -limit, 255 for limit."""
    return ((state / limit).clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def _packed(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()
