"""Pictures. Functions take and return Axes or Figures of matplotlib and need no display."""

from cde_nets.plot.animation import animate
from cde_nets.plot.cobweb import cobweb
from cde_nets.plot.controls import control_curves, control_map, control_sizes, controls
from cde_nets.plot.convergence import convergence, orders
from cde_nets.plot.growth import growth, growth_bars, growth_legend
from cde_nets.plot.images import image_flow
from cde_nets.plot.run import run_pictures
from cde_nets.plot.singular import singular_values
from cde_nets.plot.streamlines import streamlines
from cde_nets.plot.style import save
from cde_nets.plot.training import confusion, curves
from cde_nets.plot.trajectories import targets, trajectories

__all__ = [
    "animate",
    "cobweb",
    "confusion",
    "control_curves",
    "control_map",
    "control_sizes",
    "controls",
    "convergence",
    "curves",
    "growth",
    "growth_bars",
    "growth_legend",
    "image_flow",
    "orders",
    "run_pictures",
    "save",
    "singular_values",
    "streamlines",
    "targets",
    "trajectories",
]
