"""The flow of images through depth."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from cde_nets.door import floats, numbers
from cde_nets.nn.lift import ConvLift
from cde_nets.nn.maps import AveragePool
from cde_nets.nn.network import Network
from cde_nets.plot.style import COLOURS, DIVERGING, figure, styled


@torch.no_grad()
def image_flow(network: Network, images: Float[Tensor, "rows height width"], labels: Int[Tensor, "rows"]) -> Figure:
    """Each image, the channel of its label after the lift and after every step, and the logits at the end.

    That channel's mean is what the readout reads for the label: a right answer is a channel that has turned red. The
    pictures of a column share their scale of colours, blue below zero and red above, and so do the logits; the label's
    bar is orange, and where another is higher that one is black.

    Args:
        network: of `image_network`.
        images: values between 0 and 1, one a row of the picture.
        labels: of the images.

    Raises:
        ValueError: no floating images, or not an integer label for each.
    """
    _lift(network)
    floats("images", images, (None, None, None))
    if not isinstance(labels, Tensor) or labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        got = f"{labels.dtype}, shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels must be int64 of shape ({len(images)},), one an image; got {got}.")
    numbers("labels", labels)
    states, titles = image_states(network, images)
    logits = network(images)
    classes, top = logits.shape[1], 1.05 * float(logits.abs().max())
    with styled():
        made = figure(1.0 * (len(states) + 3), 1.05 * len(images) + 0.5)
        grid = made.subplots(len(images), len(states) + 2, squeeze=False, width_ratios=[1] * (len(states) + 1) + [1.8])
        limits = [float(state.abs().max()) for state in states]
        for row, label in enumerate(labels.tolist()):
            grid[row, 0].imshow(images[row].cpu().numpy(), cmap="gray_r")
            for column, (state, limit) in enumerate(zip(states, limits, strict=True), start=1):
                grid[row, column].imshow(state[row, label].cpu().numpy(), cmap=DIVERGING, vmin=-limit, vmax=limit)
            answer = int(logits[row].argmax())
            bars = [COLOURS[5] if c == label else COLOURS[7] if c == answer else COLOURS[0] for c in range(classes)]
            grid[row, -1].axhline(0, color="#777777", linewidth=0.6)
            grid[row, -1].bar(range(classes), logits[row].cpu().numpy(), color=bars)
            grid[row, -1].set(xticks=range(classes), yticks=[], ylim=(-top, top))
            grid[row, -1].tick_params(labelsize=6)
            for ax in grid[row, :-1]:
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
            for ax in grid[row]:
                ax.grid(False)
        for ax, title in zip(grid[0], ["image", *titles, "logits"], strict=True):
            ax.set_title(title, fontsize=8)
    return made


def image_states(network: Network, images: Tensor) -> tuple[list[Tensor], list[str]]:
    """Image states, shape (rows, channels, height, width), after the lift and every step, and what to call them."""
    x, shape = network.start(images), _lift(network).shape
    states, titles = [_image(x, shape)], ["lift"]
    for number, stage in enumerate(network.flow_stages(), start=1):
        path = stage.flow.trajectory(x)
        for t, state in zip(stage.flow.times[1:], path[1:], strict=True):
            states.append(_image(state, shape))
            titles.append(f"stage {number}\nt = {t:.2g}")
        x = stage.after(path[-1])
        pools = [module for module in stage.modules() if isinstance(module, AveragePool)]
        shape = pools[0].pooled if pools else shape
    return states, titles


def _lift(network: Network) -> ConvLift:
    if not isinstance(network.lift, ConvLift):
        raise ValueError(f"image_flow draws networks with a ConvLift; got {type(network.lift).__name__}.")
    return network.lift


def _image(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    channels, height, width = shape
    return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
