"""Training a batch of trials side by side, and asking the memories afterwards."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cde_nets as cn
from experiments.aside import Aside
from experiments.hopfield.memories import corrupted, packed
from experiments.hopfield.methods import ROWS, Cell
from experiments.hopfield.network import Hopfield, Shown
from experiments.hopfield.settings import Settings

# Streams of random numbers of a trial: trials are the same whatever the method, and whichever run beside them.
WEIGHTS, ORDER, START, CORRUPTION = range(4)
# Of training and radius, kept for each trial.
POINTS = 30
RADIUS_STEPS = 24


def stream(settings: Settings, trial: int, kind: int, epoch: int = 0) -> np.random.Generator:
    """Random numbers of a trial."""
    return np.random.default_rng([settings.seed, trial, kind, epoch])


def draw(settings: Settings, trials: list[int]) -> Hopfield:
    """Networks before training, on the CPU."""
    shape = (settings.units, settings.units)
    W = [stream(settings, t, WEIGHTS).standard_normal(shape, dtype=np.float32) for t in trials]
    return Hopfield(settings.spread * torch.from_numpy(np.stack(W)), settings.inputs, settings.slope)


@dataclass
class Batch:
    """Trials of one cell, trained side by side: the sum of their losses has each trial's own gradient.

    Attributes:
        settings: of all.
        cell: the method and its K.
        trials: their numbers.
        images: what is learnt, shape (10, inputs).
        checkpoint: where a batch that takes long is kept while it runs.
        every: how many seconds may be lost.
    """

    settings: Settings
    cell: Cell
    trials: list[int]
    images: Tensor
    checkpoint: Path
    every: float = 300.0

    def run(self, advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """Train and ask.

        Args:
            advance: called with the number of updates done since the last call.

        Returns:
            A dict for each trial, as `Results` keeps it.
        """
        begun = time.perf_counter()
        device = self.images.device
        network = draw(self.settings, self.trials).to(device)
        # One kernel for all: the step is a good part of the work.
        optimiser = torch.optim.Adam(network.groups(self.settings.rate), fused=True)
        history: dict[str, Any] = {"epoch": 0, "losses": [], "radii": [], "failed": [0] * len(self.trials), "took": 0.0}
        history["initial"] = self._losses(network).tolist()

        def restore(state: dict[str, Any]) -> None:
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["optimiser"])
            history.update(state["history"])

        def state() -> dict[str, Any]:
            return {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "history": history}

        aside = Aside(self.checkpoint, f"{self.settings} {self.cell} {self.trials}", self.every)
        if aside.taken_up(device, restore):
            advance(history["epoch"] * len(self.images))
        took = history["took"]
        for epoch in range(history["epoch"], self.settings.epochs):
            losses, radii = self._epoch(network, optimiser, epoch, history["failed"])
            history["losses"].append(losses.tolist())
            if radii is not None:
                history["radii"].append(radii.tolist())
            history["epoch"], history["took"] = epoch + 1, took + time.perf_counter() - begun
            advance(len(self.images))
            aside.offer(state)
        return self._rows(network, history, took + time.perf_counter() - begun)

    def _epoch(
        self, network: Hopfield, optimiser: torch.optim.Optimizer, epoch: int, failed: list[int]
    ) -> tuple[Tensor, Tensor | None]:
        """The mean loss of each trial over an epoch; at epochs that are kept, J's radius at the last image, too."""
        settings, device = self.settings, self.images.device
        order = np.stack([stream(settings, t, ORDER, epoch).permutation(len(self.images)) for t in self.trials])
        starts: Tensor | None = None
        if ROWS[self.cell.row].draws:
            shape = (len(self.images), settings.free)
            drawn = [stream(settings, t, START, epoch).random(shape, dtype=np.float32) for t in self.trials]
            starts = settings.noise * torch.from_numpy(np.stack(drawn, 1)).to(device)
        total, radii = torch.zeros(len(self.trials), device=device), None
        for k, chosen in enumerate(torch.from_numpy(order.T)):
            images = self.images[chosen.to(device)]
            layer = self._layer(network, None if starts is None else starts[k])
            shown = network.show(images)
            with warnings.catch_warnings():
                # Rows that failed are counted.
                warnings.simplefilter("ignore", cn.ConvergenceWarning)
                solution = layer.solve(shown)
                loss = (network.answer(solution.value) - images).abs().mean(1)
                optimiser.zero_grad()
                loss.sum().backward()
            if k == len(self.images) - 1 and _kept(epoch, settings.epochs):
                # Before the step, which changes the weights in their place.
                last = Shown(*(part.detach() for part in shown))
                radii = self._radius(layer, last, solution.value.detach())
            optimiser.step()
            total += loss.detach()
            for row in torch.nonzero(_failed(solution)).flatten().tolist():
                failed[row] += 1
        return total / len(self.images), radii

    def _layer(self, network: Hopfield, start: Tensor | None = None) -> cn.EquilibriumLayer:
        row, K = ROWS[self.cell.row], self.cell.steps
        return network.layer(row.forward(self.settings.steps, K), row.backward(K, start))

    def _at_rest(self, network: Hopfield, images: Tensor) -> Tensor:
        """Answers to images of shape (trials, inputs), without gradients, after all steps."""
        steps = ROWS["neumann"].forward(self.settings.steps, 0)
        with torch.no_grad():
            return network.answer(network.layer(steps)(network.show(images)))

    def _losses(self, network: Hopfield) -> Tensor:
        """The mean over all images, of each trial."""
        found = torch.zeros(len(self.trials), device=self.images.device)
        for image in self.images:
            images = image.expand(len(self.trials), -1)
            found += (self._at_rest(network, images) - images).abs().mean(1) / len(self.images)
        return found

    @staticmethod
    def _radius(layer: cn.EquilibriumLayer, shown: Shown, h: Tensor) -> Tensor:
        with torch.no_grad():
            return cn.spectral_radius(layer.problem(shown), h, tolerance=1e-3, max_steps=RADIUS_STEPS).value

    def _retrieved(self, network: Hopfield) -> tuple[tuple[list[str], list[str]], Tensor]:
        """The first trial's corrupted images and its answers, packed, and the share of wrong pixels of every trial."""
        asked = torch.stack(
            [
                corrupted(self.images.cpu(), self.settings.corruption, stream(self.settings, t, CORRUPTION))
                for t in self.trials
            ]
        ).to(self.images.device)
        answers = torch.stack([self._at_rest(network, asked[:, digit]) for digit in range(len(self.images))], 1)
        wrong = ((answers >= 0.5) != (self.images > 0.5)).float().mean((1, 2))
        return (packed(asked[0]), packed(answers[0])), wrong

    def _rows(self, network: Hopfield, history: dict[str, Any], took: float) -> list[dict[str, Any]]:
        final = self._losses(network).tolist()
        pictures, wrong = self._retrieved(network)
        epochs = [epoch for epoch in range(self.settings.epochs) if _kept(epoch, self.settings.epochs)]
        rows = []
        for k, trial in enumerate(self.trials):
            initial = history["initial"][k]
            rows.append(
                {
                    "row": self.cell.row,
                    "steps": self.cell.steps,
                    "trial": trial,
                    "initial_loss": initial,
                    "final_loss": _finite(final[k]),
                    "success": succeeded(initial, final[k]),
                    "wrong_pixels": float(wrong[k]),
                    "failed_rows": history["failed"][k],
                    "losses": [_finite(history["losses"][epoch][k]) for epoch in epochs],
                    "radii": [_finite(radii[k]) for radii in history["radii"]],
                    "epochs": [epoch + 1 for epoch in epochs],
                    "seconds": round(took / len(self.trials), 3),
                }
            )
        if self.trials[0] == 0:
            rows[0]["asked"], rows[0]["answered"] = pictures
        return rows


def succeeded(initial: float, final: float) -> bool:
    """The published rule: the final training loss is below half of the initial one. A NaN is not."""
    return final < 0.5 * initial


def _finite(value: float) -> float | None:
    """To six digits; None for what JSON has no word for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _kept(epoch: int, epochs: int) -> bool:
    """Whether an epoch is one of at most POINTS + 1 that are kept, the last among them."""
    return epoch == epochs - 1 or epoch % max(1, -(-epochs // POINTS)) == 0


def _failed(solution: cn.Solution) -> Tensor:
    """Rows that left the finite numbers on the way, or whose linear problem failed."""
    failed = ~solution.succeeded
    if solution.backward is not None and solution.backward.status is not None:
        failed = failed | (solution.backward.status == int(cn.Status.DIVERGED))
        failed = failed | (solution.backward.status == int(cn.Status.BREAKDOWN))
    return failed
