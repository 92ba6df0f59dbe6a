"""One row of the table for a few seeds at once: trained, watched, and put aside where it is long."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import cde_nets as cn
from cde_nets.data.citation import CitationGraph
from cde_nets.solver.status import succeeded
from experiments.aside import Aside
from experiments.citation.network import Cell, Neighbours, Readout, Weights, draw
from experiments.citation.preparation import Split, principal_components, sizes, split
from experiments.citation.rows import ROWS, Numbers, Row, Way

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Settings:
    """What a result depends on, besides row and seed.

    Attributes:
        dataset: its name.
        sha256: of its file.
        counts: of documents to train, validate and test on.
        size: of a document's state, and how many principal components it begins with.
        steps: of the state.
        truncation: of the rows that truncate.
        epochs: every labelled training document in each.
        every: how often accuracies are taken.
        rate: the learning rate.
        momentum: of the descent.
        decay: of all weights and biases.
        weights: how they are drawn.
    """

    dataset: str
    sha256: str
    counts: tuple[int, int, int]
    size: int
    steps: int = 100
    truncation: int = 5
    epochs: int = 2000
    every: int = 20
    rate: float = 1e-3
    momentum: float = 0.9
    decay: float = 5e-4
    weights: Weights = Weights.KAIMING

    def __post_init__(self) -> None:
        """Check what would fail late."""
        if self.steps <= self.truncation or self.truncation < 1:
            raise ValueError(f"steps: found {self.steps}, expected more than the truncation, {self.truncation}")

    @property
    def products(self) -> int:
        """The most that the row of GMRES may take."""
        # Far from rest more are in vain: on Cora, at the weights as drawn (seed 0), 20 leave 78.1 % of the right-hand
        # side, 1,000 restarted every 50 leave 77.8 %, and 300 without a restart 77.0 %.
        return 100 if self.weights is Weights.SETTLING else 20

    def plain(self) -> dict[str, Any]:
        """As JSON reads it back."""
        return asdict(self) | {"counts": list(self.counts), "weights": self.weights.value}


class Prepared:
    """A graph and its principal components, made once for all runs.

    Args:
        graph: the data.
        size: how many components.

    Raises:
        ValueError: more components than there are.
    """

    def __init__(self, graph: CitationGraph, size: int) -> None:
        self.features = torch.from_numpy(principal_components(graph.features, size))
        self.messages, self.labels = torch.from_numpy(graph.messages()), torch.from_numpy(graph.labels)
        self.nodes, self.classes = len(graph), graph.classes
        self.radius = Neighbours.radius(self.messages, self.nodes)


class Runs:
    """A row for a few seeds, between two epochs.

    Args:
        key: of the row.
        seeds: one a run: of split, weights, and whatever the row draws.
        settings: what else it depends on.
        data: prepared from the graph that the settings name.
        device: where to.
    """

    def __init__(
        self, key: str, seeds: Sequence[int], settings: Settings, data: Prepared, device: torch.device
    ) -> None:
        self.key, self.seeds, self.settings, self.device = key, list(seeds), settings, device
        self.row: Row = ROWS[key]
        dtype = torch.float64 if self.row.double else torch.float32
        runs = len(self.seeds)
        splits = [split(data.nodes, settings.counts, seed) for seed in self.seeds]
        self.parts = {name: _parts(splits, name).to(device) for name in Split._fields}
        self.labels = data.labels.to(device)
        self.features = data.features.to(device, dtype).expand(runs, -1, -1).contiguous()
        cells, maps = zip(
            *(draw(settings.size, data.classes, settings.weights, data.radius, seed) for seed in self.seeds),
            strict=True,
        )
        neighbours = Neighbours(data.messages, data.nodes, runs, device)
        self.model = nn.ModuleDict({"readout": Readout(maps)})
        if self.row.way is not None:
            self.model["cell"] = Cell(neighbours, cells)
        self.model.to(device, dtype)
        self.descent = torch.optim.SGD(
            self.model.parameters(), settings.rate, momentum=settings.momentum, weight_decay=settings.decay
        )
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        self.numbers = Numbers(
            settings.steps, settings.truncation, settings.products, (data.nodes, settings.size), dtype, device
        )
        self.epoch, self.seconds = 0, 0.0
        self.stopped: list[int | None] = [None] * runs
        self.unsolved = torch.zeros(runs, dtype=torch.int64)
        self.history: list[list[dict[str, float | int | None]]] = [[] for _ in self.seeds]

    def step(self) -> None:
        """One epoch. A run whose gradient is not finite stops there: its weights stay what they are."""
        logits, state, solution = self._forward()
        losses = self.losses(logits)
        self.descent.zero_grad()
        with quiet():
            losses.sum().backward()
        if solution is not None and solution.backward is not None and solution.backward.status is not None:
            self.unsolved += ~succeeded(solution.backward.status).cpu()
        if self.epoch == 0 or (self.epoch + 1) % self.settings.every == 0:
            self._watch(logits, state, losses)
        self._descend()
        self.epoch += 1

    def finish(self) -> list[dict[str, Any]]:
        """Accuracies after the last epoch; then a result for each seed, its epoch chosen by validation accuracy."""
        with torch.no_grad():
            logits, state, _ = self._forward()
            self._watch(logits, state, None)
        results = []
        for k, seed in enumerate(self.seeds):
            lines = self.history[k]
            # The first of the best.
            best = max(lines, key=lambda line: line["validation"] or 0.0)
            results.append(
                {
                    "row": self.key,
                    "seed": seed,
                    "test_accuracy": best["test"],
                    "validation_accuracy": best["validation"],
                    "epoch": best["epoch"],
                    "last_test_accuracy": lines[-1]["test"],
                    "stopped_at": self.stopped[k],
                    "unsolved_epochs": int(self.unsolved[k]),
                    "seconds": round(self.seconds / len(self.seeds), 2),
                    "batch": len(self.seeds),
                    "device": self.device.type,
                    "torch": torch.__version__,
                    "curve": {name: [_short(line[name]) for line in lines] for name in lines[0]},
                }
            )
        return results

    def state(self) -> dict[str, Any]:
        """Everything that changes, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "descent": self.descent.state_dict(),
            "generators": [generator.get_state() for generator in self.generators],
            "epoch": self.epoch,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "unsolved": self.unsolved,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of these runs."""
        self.model.load_state_dict(state["model"])
        self.descent.load_state_dict(state["descent"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            # Generators and counts stay on the host.
            generator.set_state(saved.cpu())
        self.epoch, self.seconds, self.stopped = state["epoch"], state["seconds"], state["stopped"]
        self.unsolved, self.history = state["unsolved"].cpu(), state["history"]

    def identity(self) -> dict[str, Any]:
        """What a state of these runs is told by."""
        return {"row": self.key, "seeds": self.seeds, "settings": self.settings.plain(), "device": self.device.type}

    def losses(self, logits: Tensor) -> Tensor:
        """The mean cross-entropy over each run's training documents, shape (runs,)."""
        each = torch.nn.functional.cross_entropy(
            self._of(logits, "train").flatten(0, 1), self._labels("train").flatten(), reduction="none"
        )
        return each.view(len(self.seeds), -1).mean(1)

    def _forward(self) -> tuple[Tensor, Tensor | None, cn.Solution | None]:
        """As `along`, by the row's own way; states and solution are None where there is no recurrent network."""
        if self.row.way is None:
            return self.model["readout"](self.features), None, None
        if torch.is_grad_enabled():
            return self.along(self.row.way(self.numbers, self.generators))
        return self.along(Way(self.settings.steps, cn.Implicit()))

    def along(self, way: Way) -> tuple[Tensor, Tensor, cn.Solution]:
        """Logits of all documents, shape (runs, documents, classes), the states that they are read from, and how found.

        Args:
            way: how the states are reached, and differentiated.
        """
        cell = self.model["cell"]
        layer = cn.EquilibriumLayer(cell, cn.Picard(steps=way.steps), way.gradient, throw=False)
        solution = layer.solve(self.features, self.features)
        state = solution.value
        for _ in range(way.beyond):
            with torch.no_grad():
                moved = cell(self.features, state) - state
            state = state + moved
        return self.model["readout"](state), state, solution

    def _watch(self, logits: Tensor, state: Tensor | None, losses: Tensor | None) -> None:
        """Write down where every run stands."""
        right = {name: self._right(logits, name) for name in Split._fields}
        away: list[float | None] = [None] * len(self.seeds)
        if state is not None:
            z = state.detach()
            with torch.no_grad():
                moved = (self.model["cell"](self.features, z) - z).flatten(1).norm(dim=1)
            away = [_finite(number) for number in (moved / z.flatten(1).norm(dim=1)).tolist()]
        cell = [p.grad for n, p in self.model.named_parameters() if n.startswith("cell") and p.grad is not None]
        slopes = torch.stack([g.flatten(1).norm(dim=1) for g in cell]).norm(dim=0).tolist() if cell else None
        for k, lines in enumerate(self.history):
            lines.append(
                {
                    "epoch": self.epoch,
                    **{name: right[name][k] for name in right},
                    "loss": None if losses is None else _finite(float(losses[k].detach())),
                    "relative_residual": away[k],
                    "gradient": None if losses is None or slopes is None else _finite(slopes[k]),
                }
            )

    def _right(self, logits: Tensor, part: str) -> list[float]:
        chosen = self._of(logits, part).argmax(-1)
        # Where there are no numbers there is no answer.
        known = torch.isfinite(logits).all(-1).gather(1, self.parts[part])
        found: list[float] = ((chosen == self._labels(part)) & known).double().mean(1).tolist()
        return found

    def _of(self, logits: Tensor, part: str) -> Tensor:
        numbers = self.parts[part]
        return logits.gather(1, numbers[..., None].expand(-1, -1, logits.shape[-1]))

    def _labels(self, part: str) -> Tensor:
        return self.labels[self.parts[part]]

    def _descend(self) -> None:
        parameters = list(self.model.parameters())
        gradients = [p.grad.flatten(1) for p in parameters if p.grad is not None]
        lost = ~torch.isfinite(torch.cat(gradients, 1)).all(1).cpu()
        for k in torch.nonzero(lost).flatten().tolist():
            self.stopped[k] = self.epoch if self.stopped[k] is None else self.stopped[k]
        ended = torch.tensor([at is not None for at in self.stopped], device=self.device)
        kept = [p.detach().clone() for p in parameters] if any(at is not None for at in self.stopped) else []
        self.descent.step()
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=False):
                parameter.copy_(torch.where(ended.view(-1, *[1] * (old.ndim - 1)), old, parameter))


def run(
    runs: Runs, checkpoint: Path, on_epoch: Callable[[], None], *, seconds: float = CHECKPOINT_SECONDS
) -> list[dict[str, Any]]:
    """All epochs; what is put aside on the way goes on from there when it is called again.

    Args:
        runs: fresh.
        checkpoint: a file that is written every so often; one of other runs is overwritten.
        on_epoch: called after every epoch, and for each that was done before.
        seconds: between two checkpoints.

    Returns:
        A result a seed.
    """
    aside = Aside(checkpoint, runs.identity(), seconds)
    if aside.taken_up(runs.device, runs.restore):
        for _ in range(runs.epoch):
            on_epoch()
    while runs.epoch < runs.settings.epochs:
        begun = time.perf_counter()
        runs.step()
        runs.seconds += time.perf_counter() - begun
        on_epoch()
        aside.offer(runs.state)
    return runs.finish()


def settings_of(graph: CitationGraph, size: int, counts: tuple[int, int, int] | None, **given: Any) -> Settings:
    """Settings for a graph; a split by fractions where none is given.

    Raises:
        ValueError: as `split`.
    """
    chosen = sizes(len(graph)) if counts is None else counts
    split(len(graph), chosen, 0)
    return Settings(graph.name, graph.sha256, chosen, size, **given)


def _parts(splits: list[Split], name: str) -> Tensor:
    return torch.stack([torch.from_numpy(getattr(one, name)) for one in splits])


def _short(number: float | int | None) -> float | int | None:
    """Five digits are enough for a curve, and a table of runs stays small."""
    return float(f"{number:.5g}") if isinstance(number, float) else number


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return number if abs(number) < float("inf") else None


@contextmanager
def quiet() -> Iterator[None]:
    """Linear problems that were not solved are counted, not shouted about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cn.ConvergenceWarning)
        # The first forward derivative compiles torch's own formulas by what torch itself calls deprecated.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        yield
