"""One model as a flow to rest, as a fixed point and as a linear problem on the way back: one loop, the same answers.

    python -m experiments.one_backend

The model is z = f(z) with f(z) = tanh(W z + U x + b), and L = <c, z*> summed over rows; J is f's Jacobian at z*.

1. Euler's steps of width 1 on z' = f(z) - z are Picard's iteration, to the last bit: states, statistics, gradients.
2. Every method for rest reaches the same z*, and by the implicit function theorem the same gradients in W, U and b.
3. The flow z' = f(z) - z, integrated to a time T as an initial value problem and differentiated through its steps,
   tends to the same: |z(T) - z*| as e^(alpha T) with alpha the largest real part of the eigenvalues of J - I
   (linearisation at rest: Hartman, Ordinary Differential Equations, 1964, chapter IX). For the gradient, D = dz/dtheta
   obeys D' = (J(z(t)) - I) D + df/dtheta, and what drives D - D* decays as e^(alpha t) itself, at resonance: it falls
   as (a + b T) e^(alpha T), the slope of its logarithm tends to alpha like 1/T. Picard's iterates fall as rho^k, rho
   the spectral radius of J, and so do the terms that `Truncated(k)` leaves out; the unrolled gradient as (a + b k)
   rho^k.
4. The way back, (I - J^T) w = c, is one more `LinearProblem`, and its solution tells what it took in the same words.
   What `Implicit(method)` reports of its backward pass is what that method reports of this problem.

W is a Gaussian matrix with a constant added to its entries: its leading eigenvalue is real and stands alone, so that
there is one slope to be measured. Slopes are those of the first row; rows do not see each other.

Subject: Equilibria
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

import cde_nets as cn
from cde_nets.plot.style import COLOURS, figure, styled
from experiments.command import Json, Quick, begin, leave, less
from experiments.fixed_points.solving import NO_RTOL, counts, name, words
from experiments.shown import progress

app = typer.Typer(add_completion=False)

DIM, INPUTS, ROWS = 16, 3, 4
# Of the Gaussian part of W, its norm, and of the constant part, its eigenvalue.
NORM, MEAN = 0.8, 0.8
ATOL = 1e-13
TIMES = tuple(range(5, 65, 5))
# A method of order 5 whose errors in a step are far below what is measured, and vanish at rest.
FLOW, STEPS_A_TIME = "dopri5", 2
LENGTHS = tuple(range(4, 64, 4))
# What is measured above it is not rounding. A tolerance of NONE is met by nothing but 0.
FLOOR, NONE = 1e-12, 1e-300
REST: tuple[Any, ...] = (
    cn.Picard(),
    cn.FlowToRest("euler", step=1.0),
    cn.FlowToRest("dopri5"),
    cn.FlowToRest("tsit5"),
    cn.Anderson(),
    cn.Broyden(),
    cn.Newton(),
    cn.NewtonKrylov(),
)
# Of each of REST, by its name; those of `experiments.fixed_points` have the same colour there.
LOOKS: dict[str, dict[str, Any]] = {
    name(method): {"color": COLOURS[colour], "marker": marker, "linestyle": line, "markersize": 3.5}
    for method, colour, marker, line in zip(
        REST, (0, 0, 4, 4, 1, 2, 5, 3), ".oPXs^vD", ("-", "none", "-", "--", "-", "-", "-", "--"), strict=True
    )
}
LINEAR: tuple[Any, ...] = (cn.Dense(), cn.RBP(), cn.Neumann(), cn.CG(), cn.GMRES(), cn.BiCGStab())


@dataclass(frozen=True)
class Model:
    """z = tanh(W z + U x + b), float64, and the cotangent c of L = <c, z*>.

    Attributes:
        leaves: W, shape (dim, dim), U, shape (dim, inputs), and b, shape (dim,); they want gradients.
        x: shape (rows, inputs).
        c: shape (rows, dim).
    """

    leaves: tuple[Tensor, Tensor, Tensor]
    x: Tensor
    c: Tensor

    @property
    def args(self) -> tuple[Tensor, ...]:
        """What f takes after z."""
        return (*self.leaves, self.x)

    @property
    def start(self) -> Tensor:
        """Zero, shape (rows, dim)."""
        return torch.zeros_like(self.c)

    def first_row(self) -> Model:
        """The same with one row."""
        return Model(self.leaves, self.x[:1], self.c[:1])

    def gradient(self, z: Tensor) -> Tensor:
        """Of L in W, U and b, one vector."""
        return torch.cat([part.flatten() for part in torch.autograd.grad((self.c * z).sum(), self.leaves)])

    def rest(self, method: Any, gradient: Any, *, atol: float = ATOL, **how: Any) -> cn.Solution:
        """As a fixed point."""
        problem = cn.FixedPointProblem(model, self.start, args=self.args)
        return cn.solve(problem, method, gradient=gradient, tolerance=cn.Tolerance(NO_RTOL, atol), **how)

    def reference(self) -> tuple[Tensor, Tensor]:
        """z* by Newton and the gradient by LU: what all others are compared with."""
        found = self.rest(cn.Newton(), cn.Implicit(cn.Dense()))
        return found.value.detach(), self.gradient(found.value)

    def eigenvalues(self, z: Tensor) -> Tensor:
        """Of J at z, row by row, shape (rows, dim), complex."""
        W, U, b = (leaf.detach() for leaf in self.leaves)
        one = torch.func.jacrev(lambda row, x: model(row[None], W, U, b, x[None])[0])
        found: Tensor = torch.linalg.eigvals(torch.func.vmap(one)(z, self.x))
        return found


def model(z: Tensor, W: Tensor, U: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """f(z) of rows z."""
    return torch.tanh(z @ W.T + x @ U.T + b)


def draw(seed: int) -> Model:
    """A Gaussian W of norm NORM with MEAN / dim added to every entry; small U and b; x and c N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    W = normal(DIM, DIM)
    W = W * (NORM / torch.linalg.matrix_norm(W, 2)) + MEAN / DIM
    leaves = (W, 0.2 * normal(DIM, INPUTS), 0.1 * normal(DIM))
    x, c = normal(ROWS, INPUTS), normal(ROWS, DIM)
    return Model(tuple(leaf.requires_grad_() for leaf in leaves), x, c)  # type: ignore[arg-type]


@app.command()
@less(globals(), TIMES=(5, 10, 15, 20, 25, 30), LENGTHS=(4, 8, 12, 16, 20, 24))
def one_backend(
    out: Annotated[Path, typer.Option(help="Folder of the figure and the numbers.")] = Path("runs/one_backend"),
    seed: Annotated[int, typer.Option(min=0, help="Of the model.")] = 0,
    quick: Quick = False,
    publish: Annotated[Path | None, typer.Option(help="Copy both to this docs folder.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Solve one model in all ways; write one_backend.json and one_backend.png."""
    out = begin(out, publish, quick=quick)
    torch.set_num_threads(threads)
    drawn = draw(seed)
    with progress() as bar:
        task = bar.add_task("one backend", total=len(REST) + len(LINEAR) + len(TIMES) + len(LENGTHS))

        def done() -> None:
            bar.advance(task)

        content: dict[str, Any] = {
            "seed": seed,
            "atol": ATOL,
            "euler_is_picard": identity(drawn),
            "rest": agreement(drawn, done),
            "linear": way_back(drawn, done),
            "flow": relaxation(drawn.first_row(), done),
            "iteration": lengths(drawn.first_row(), done),
        }
    pictured = picture(content)
    leave("one_backend", out, publish, content, pictured, *_tables(content), as_json=as_json)


def identity(drawn: Model) -> dict[str, bool]:
    """Whether Euler with step 1 and Picard agree to the last bit, in everything that a solution says."""
    trace = cn.SaveAt(steps=True)
    euler, picard = (drawn.rest(m, cn.Implicit(), save_at=trace) for m in (cn.FlowToRest("euler", step=1), cn.Picard()))
    gradients = [drawn.gradient(found.value) for found in (euler, picard)]
    assert euler.trace is not None
    assert picard.trace is not None
    return {
        "value": torch.equal(euler.value, picard.value),
        "status": torch.equal(euler.status, picard.status),
        "statistics": same(euler.statistics, picard.statistics),
        "every_state": torch.equal(euler.trace.values, picard.trace.values),
        "every_residual": torch.equal(euler.trace.residuals, picard.trace.residuals),  # type: ignore[arg-type]
        "gradient": torch.equal(*gradients),
        "backward_statistics": same(_backward(euler), _backward(picard)),
    }


def same(one: cn.Statistics, other: cn.Statistics) -> bool:
    """Whether two solves took the same, every row and to the last bit."""
    pairs = [(value, getattr(other, key)) for key, value in vars(one).items()]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def agreement(drawn: Model, done: Callable[[], None]) -> list[dict[str, Any]]:
    """Every method for rest: what it took, there and back, and its distance from the reference."""
    z, gradient = drawn.reference()
    rows = []
    for method in REST:
        found = drawn.rest(method, cn.Implicit(), save_at=cn.SaveAt(steps=True))
        difference = drawn.gradient(found.value) - gradient
        assert found.trace is not None
        away = (found.trace.values[:, 0] - z[0]).norm(dim=1)
        rows.append(
            {
                **words(method, found),
                "backward": counts(_backward(found)),
                "distance": float((found.value.detach() - z).norm(dim=1).max()),
                "gradient_distance": float(difference.abs().max()),
                "first_row": away[: int(found.statistics.steps[0]) + 1].tolist(),
            }
        )
        done()
    return rows


def way_back(drawn: Model, done: Callable[[], None]) -> list[dict[str, Any]]:
    """(I - J^T) w = c by every method for linear problems, beside what `Implicit` reports of its backward pass."""
    z, _ = drawn.reference()
    W, U, b = (leaf.detach() for leaf in drawn.leaves)

    def f(state: Tensor) -> Tensor:
        return model(state, W, U, b, drawn.x)

    pull: Any = torch.func.vjp(f, z)[1]
    problem = cn.LinearProblem(lambda w: pull(w)[0], drawn.c, transpose=lambda v: torch.func.jvp(f, (z,), (v,))[1])
    tolerance = cn.Tolerance(NO_RTOL, ATOL)
    best = cn.solve(problem, cn.Dense(), tolerance=tolerance).value
    rows = []
    for method in LINEAR:
        found = cn.solve(problem, method, tolerance=tolerance)
        layer = drawn.rest(cn.Newton(), cn.Implicit(method, tolerance=tolerance))
        drawn.gradient(layer.value)
        rows.append(
            {
                **words(method, found),
                "distance": float((found.value - best).norm(dim=1).max()),
                "implicit_reports_the_same": same(found.statistics, _backward(layer)),
            }
        )
        done()
    return rows


def relaxation(drawn: Model, done: Callable[[], None]) -> dict[str, Any]:
    """The flow to T: distances of state and gradient from those at rest, and the slopes of their logarithms."""
    z, gradient = drawn.reference()
    states, gradients = [], []
    for time in TIMES:
        problem = cn.InitialValueProblem(
            lambda t, state, *args: model(state, *args) - state, drawn.start, 0.0, float(time), args=drawn.args
        )
        method = cn.RungeKutta(FLOW, steps=STEPS_A_TIME * time)
        found = cn.solve(problem, method, gradient=cn.Discrete())
        states.append(float((found.value.detach() - z).norm()))
        gradients.append(float((drawn.gradient(found.value) - gradient).norm()))
        done()
    return {
        "method": FLOW,
        "steps_a_unit_of_time": STEPS_A_TIME,
        "times": list(TIMES),
        "distances": states,
        "gradient_distances": gradients,
        "predicted_slope": float(drawn.eigenvalues(z).real.max()) - 1,
        "slope": slope(TIMES, states),
        "gradient_slope": slope(TIMES, gradients),
    }


def lengths(drawn: Model, done: Callable[[], None]) -> dict[str, Any]:
    """Steps of Picard, k of them, their unrolled gradient, and k terms of the gradient at rest: distances, slopes."""
    z, gradient = drawn.reference()
    states, unrolled, truncated = [], [], []
    for k in LENGTHS:
        # All k steps are wanted, however small they become.
        steps = drawn.rest(cn.Picard(), cn.Unrolled(), atol=NONE, max_steps=k, throw=False)
        states.append(float((steps.value.detach() - z).norm()))
        unrolled.append(float((drawn.gradient(steps.value) - gradient).norm()))
        terms = drawn.rest(cn.Newton(), cn.Truncated(k))
        truncated.append(float((drawn.gradient(terms.value) - gradient).norm()))
        done()
    return {
        "k": list(LENGTHS),
        "distances": states,
        "unrolled": unrolled,
        "truncated": truncated,
        "predicted_slope": float(drawn.eigenvalues(z).abs().max().log()),
        "slope": slope(LENGTHS, states),
        "unrolled_slope": slope(LENGTHS, unrolled),
        "truncated_slope": slope(LENGTHS, truncated),
    }


def slope(at: tuple[int, ...], values: list[float]) -> float:
    """Of the logarithm, by least squares over the last half of what is above rounding."""
    kept = [(t, value) for t, value in zip(at, values, strict=True) if value > FLOOR]
    late = kept[len(kept) // 2 :]
    return float(np.polyfit([t for t, _ in late], np.log([value for _, value in late]), 1)[0])


def _backward(solution: cn.Solution) -> cn.Statistics:
    assert solution.backward is not None
    assert solution.backward.statistics is not None
    return solution.backward.statistics


def picture(content: dict[str, Any]) -> Figure:
    """Left: distances from z*. Right: distances of gradients. Dotted: the predicted slopes."""
    pictured = figure(11.5, 4.8)
    with styled():
        left, right = pictured.subplots(1, 2)
        _draw_states(left, content)
        _draw_gradients(right, content)
        for ax in (left, right):
            ax.set_yscale("log")
            ax.set_xlim(-1, TIMES[-1] + 1)
    return pictured


def _draw_states(ax: Axes, content: dict[str, Any]) -> None:
    flow, picard = content["flow"], content["iteration"]
    for row in content["rest"]:
        method = row["method"]
        # Rings around Picard's points.
        ring = {"markerfacecolor": "none", "markersize": 7} if "euler" in method else {}
        # Where nothing is left a logarithmic axis shows nothing.
        left = [value or np.nan for value in row["first_row"]]
        look: Any = {**LOOKS[method], **ring, "markevery": max(1, len(left) // 12)}
        ax.plot(left, label=_said(method), **look)
    ax.plot(flow["times"], flow["distances"], "s", color="black", markersize=4, label=f"z' = f(z) − z to T, {FLOW}")
    _predict(ax, flow["times"], flow["distances"], flow["predicted_slope"])
    _predict(ax, picard["k"], picard["distances"], picard["predicted_slope"])
    ax.set(xlabel="steps, or time T", ylabel="$|z - z^*|$", ylim=(1e-15, None))
    found = (("flow", flow), ("Picard", picard))
    said = [f"{word} {row['slope']:.4f} ({row['predicted_slope']:.4f})" for word, row in found]
    ax.set_title(f"slopes (predicted): {', '.join(said)}".replace("-", "−"))
    ax.legend(fontsize=7, loc="upper right")


def _draw_gradients(ax: Axes, content: dict[str, Any]) -> None:
    flow, picard = content["flow"], content["iteration"]
    for at, values, measured, predicted, marker, colour, label in (
        (flow["times"], flow["gradient_distances"], flow["gradient_slope"], flow, "s", "black", "to T, Discrete()"),
        (picard["k"], picard["unrolled"], picard["unrolled_slope"], picard, "o", COLOURS[0], "Picard, Unrolled()"),
        (picard["k"], picard["truncated"], picard["truncated_slope"], picard, "^", COLOURS[5], "at rest, Truncated(k)"),
    ):
        rate = predicted["predicted_slope"]
        named = f"{label}: slope {measured:.3f}, predicted {rate:.3f}".replace("-", "−")
        ax.plot(at, values, marker, color=colour, markersize=4, label=named)
        _predict(ax, at, values, rate)
    ax.set(xlabel="k, or time T", ylabel="distance from the exact gradient")
    ax.set_title("gradients in W, U and b")
    ax.legend(fontsize=7, loc="upper right")


def _predict(ax: Axes, at: list[int], values: list[float], rate: float) -> None:
    """The predicted slope, through the middle of what is above rounding."""
    kept = [(t, value) for t, value in zip(at, values, strict=True) if value > FLOOR]
    time, value = kept[len(kept) // 2]
    ends = (at[0], kept[-1][0])
    ax.plot(ends, [value * np.exp(rate * (t - time)) for t in ends], ":", color="black", linewidth=1.0, zorder=1)


def _said(method: str) -> str:
    """A method's name in a legend."""
    return method.replace("FlowToRest(flow=", "FlowToRest(").removesuffix("()")


def _tables(content: dict[str, Any]) -> tuple[Table, Table, Table]:
    bits = all(content["euler_is_picard"].values())
    rest = Table(
        "method",
        "status",
        "steps",
        "evaluations",
        "products",
        "|z - z*|",
        "back: steps",
        "back: products",
        "gradient off by",
        title="the same rest point and gradient",
        caption=f"Euler with step 1 is Picard to the last bit, all of {', '.join(content['euler_is_picard'])}: {bits}",
    )
    for row in content["rest"]:
        back = row["backward"]
        rest.add_row(
            _said(row["method"]),
            ", ".join(row["status"]),
            *(str(row[key]) for key in ("steps", "evaluations", "products")),
            f"{row['distance']:.1e}",
            str(back["steps"]),
            str(back["products"]),
            f"{row['gradient_distance']:.1e}",
        )
    linear = Table("method", "status", "steps", "products", "residual", "|w - w*|", "as Implicit reports", title="back")
    for row in content["linear"]:
        linear.add_row(
            _said(row["method"]),
            ", ".join(row["status"]),
            str(row["steps"]),
            str(row["products"]),
            f"{row['residual']:.1e}",
            f"{row['distance']:.1e}",
            "yes" if row["implicit_reports_the_same"] else "no",
        )
    flow, picard = content["flow"], content["iteration"]
    slopes = Table("distance of", "slope", "predicted", title="slopes of logarithms")
    for said, measured, predicted in (
        ("the flow's state", flow["slope"], flow),
        ("the flow's gradient", flow["gradient_slope"], flow),
        ("Picard's iterate", picard["slope"], picard),
        ("its unrolled gradient", picard["unrolled_slope"], picard),
        ("the truncated gradient at rest", picard["truncated_slope"], picard),
    ):
        slopes.add_row(said, f"{measured:.4f}", f"{predicted['predicted_slope']:.4f}")
    return rest, linear, slopes


if __name__ == "__main__":
    app()
