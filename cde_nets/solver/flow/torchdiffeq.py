"""The methods of the library torchdiffeq, by their names: multistep, implicit and of high order."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cde_nets.options import options, suggest
from cde_nets.solver.dynamics import Counted, Moment
from cde_nets.solver.initial_value import InitialValueProblem
from cde_nets.solver.loop import DEFAULT_MAX_STEPS
from cde_nets.solver.method import Iterate, Method, Scheme, start
from cde_nets.solver.states import finite_rows, real
from cde_nets.solver.status import Status
from cde_nets.solver.tolerance import Tolerance

# What its constructors take besides options.
_NOT_OPTIONS = {"self", "func", "y0", "rtol", "atol", "kwargs", "unused_kwargs"}


def solvers() -> Mapping[str, type]:
    """The classes of torchdiffeq by the names of their methods. It is loaded when it is first needed."""
    from torchdiffeq._impl.odeint import SOLVERS

    known: Mapping[str, type] = SOLVERS
    return known


def check_method(name: object) -> None:
    """Refuse what is no method of torchdiffeq (ValueError)."""
    if not isinstance(name, str) or name not in solvers():
        raise ValueError(f"torchdiffeq has no method {name!r}{suggest(name, solvers())}")


def known_options(name: str) -> list[str]:
    """The options that a method of torchdiffeq knows, read from its constructors."""
    found = []
    for base in solvers()[name].__mro__:
        made = vars(base).get("__init__")
        if made is not None and base is not object:
            found += [name for name in inspect.signature(made).parameters if name not in _NOT_OPTIONS]
    # The explicit Adams method is the implicit one with this option given already.
    skip = {"implicit"} if name == "explicit_adams" else set()
    return [name for name in dict.fromkeys(found) if name not in skip]


def check_options(name: str, given: Mapping[str, Any]) -> None:
    """Refuse options that a method of torchdiffeq does not know; the library itself warns and ignores them.

    Raises:
        ValueError: such an option; the message names the nearest.
    """
    known = known_options(name)
    unknown = next((option for option in given if option not in known), None)
    if unknown is not None:
        raise ValueError(f"torchdiffeq's {name} has no option {unknown!r}{suggest(unknown, known)}")


def adapts(name: str) -> bool:
    """Whether a method of torchdiffeq tries steps, and may refuse them."""
    valid: set[str] = solvers()[name].valid_callbacks()  # type: ignore[attr-defined]
    return "callback_reject_step" in valid


def leaves_torch(name: str) -> bool:
    """Whether a method computes outside of torch, where no gradient can follow."""
    return name == "scipy_solver"


# Where the library's own defaults are no good.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"explicit_adams": {"max_order": 4}}


@options
class TorchDiffEq(Method):
    """A method of torchdiffeq by its name, on a flow of this package.

    The library is started anew at every breakpoint, and its adaptive steps end there; save times are its own output
    times in between. All rows take the same steps, and one error decides for all. A row that leaves the finite numbers
    is set aside, and the others go on without it; where the library gives up, all rows fail with STEP_TOO_SMALL.

    Its fixed steps run from save time to save time if the option step_size does not make them shorter. Gradients:
    `Autograd`, through the library's own operations; "scipy_solver" computes outside of torch and has none. Events,
    manifolds and fields that are fresh at every interval need `RungeKutta`.

    Args:
        name: as torchdiffeq knows it: "dopri8", "implicit_adams", "scipy_solver", ..
        options: handed on to it: {"step_size": 0.1}, {"solver": "Radau"}, .. Its norm is given the state as the field
            sees it. "explicit_adams" takes order 4 where max_order is not given: at the library's own 12 it is unstable
            at steps that others find small.

    Raises:
        ValueError: a name or an option that the library does not know; the message gives the nearest.
    """

    solves: ClassVar[str] = "flow"

    name: str
    options: Mapping[str, Any] = field_of(default_factory=dict)

    def __post_init__(self) -> None:
        """Check both."""
        check_method(self.name)
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options must be a dict of torchdiffeq's options; got {self.options!r}.")
        check_options(self.name, self.options)

    def resolve(self, problem: InitialValueProblem, save_at: Sequence[float] = ()) -> Scheme:
        """With the problem's breakpoints.

        Raises:
            ValueError: a problem with an event, a manifold or fresh fields.
        """
        unfit = next(
            (
                what
                for what, has in (
                    ("stop rows at events", problem.event is not None),
                    ("put its steps back on a manifold", problem.manifold is not None),
                    ("change fields that are fresh at every interval", problem.fresh),
                )
                if has
            ),
            None,
        )
        if unfit is not None:
            raise ValueError(f"TorchDiffEq takes steps of its own and cannot {unfit}; take RungeKutta.")
        mesh = (problem.t0, *problem.breakpoints, problem.t1)
        options = {**_DEFAULTS.get(self.name, {}), **self.options}
        return LibrarySteps(self.name, options, Counted(problem.dynamics), mesh, tuple(save_at))


class Passed(NamedTuple):
    """What is kept between the stretches from breakpoint to breakpoint.

    Attributes:
        tolerance: the solve's.
        n: how many stretches are done.
        saved: the states at the save times passed, each (rows, numbers).
        accepted: steps of the library's that each row took, shape (rows,).
        rejected: steps that it tried in vain, shape (rows,).
    """

    tolerance: Tolerance
    n: int
    saved: tuple[Tensor, ...]
    accepted: Tensor
    rejected: Tensor


@dataclass(frozen=True, eq=False)
class LibrarySteps(Scheme):
    """To the loop a step is a stretch between two breakpoints, which the library integrates.

    Attributes:
        name: of the method.
        options: for it.
        dynamics: dX/dt.
        mesh: where stretches end.
        save_at: times after the start at which states are wanted, in the order they are passed.
        max_steps: of the library's adaptive steps, all tries counted.
    """

    name: str
    options: Mapping[str, Any]
    dynamics: Counted
    mesh: Sequence[float]
    save_at: Sequence[float]
    max_steps: int = DEFAULT_MAX_STEPS

    def planned(self, problem: InitialValueProblem) -> int:
        """The number of stretches."""
        return len(self.mesh) - 1

    def init(self, problem: InitialValueProblem, tolerance: Tolerance) -> Iterate:
        """At t0."""
        x = problem.packed()
        none = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        return start(x, memory=Passed(tolerance, 0, (), none, none))

    def step(self, problem: InitialValueProblem, state: Iterate) -> Iterate:
        """To the next breakpoint. Rows that are to blame for a failure are set aside, and the others try again."""
        memory: Passed = state.memory
        here, there = self.mesh[memory.n : memory.n + 2]
        times = self._times(here, there)
        going, status = state.running, state.status
        accepted, rejected = memory.accepted, memory.rejected
        found: Tensor | None = None
        while bool(going.any()):
            # Rows that ended stand where a running one stands, and spoil no error estimate.
            donor = going.to(torch.uint8).argmax()
            x = torch.where(going[:, None], state.value, state.value.index_select(0, donor[None]))
            tried = int((accepted + rejected).max())
            field = _Field(self, problem, x, (here, there), self.max_steps - tried)
            outcome = self._integrate(problem, field, x, times, memory.tolerance)
            accepted = accepted + going * field.accepted
            rejected = rejected + going * field.rejected
            if isinstance(outcome, Tensor):
                found = outcome
                break
            blamed = going & ~field.finite_rows
            alone = outcome == Status.STEP_TOO_SMALL and bool(blamed.any())
            ended = blamed if alone else going
            status = torch.where(ended, int(Status.DIVERGED if alone else outcome), status)
            going = going & ~ended
        saved, value = [], state.value
        for k in range(1, len(times)):
            if found is not None:
                value = torch.where((going & finite_rows(found[k]))[:, None], found[k], value)
            saved.append(value)
        here_saved = sum(1 for t in times[1:] if t in self.save_at)
        after = Passed(memory.tolerance, memory.n + 1, (*memory.saved, *saved[:here_saved]), accepted, rejected)
        end = state.value if found is None else torch.where(going[:, None], found[-1], state.value)
        return replace(state, value=end, running=going, status=status, moved=going, memory=after)

    def terminate(self, problem: InitialValueProblem, state: Iterate) -> Tensor:
        """Rows that came to the end are done."""
        return torch.full_like(state.status, int(Status.DONE))

    def _times(self, here: float, there: float) -> list[float]:
        sign = math.copysign(1.0, there - here)
        return [here, *(t for t in self.save_at if sign * here < sign * t < sign * there), there]

    def _integrate(
        self, problem: InitialValueProblem, field: _Field, x: Tensor, times: Sequence[float], tolerance: Tolerance
    ) -> Tensor | Status:
        """The states at the times, shape (times, rows, numbers), or how it failed."""
        t = torch.tensor(times, dtype=torch.float64, device=x.device)
        rtol, atol = (self._per_element(value, x) for value in (tolerance.rtol, tolerance.atol))
        try:
            found = self._odeint(field, x, t, rtol=rtol, atol=atol, options=self._filled(problem, t))
        except _OutOfStepsError:
            return Status.MAX_STEPS
        except (AssertionError, ValueError) as error:
            # The library gives up by assertions, and scipy refuses NaN. What the field raises is not theirs, and what
            # comes before its first evaluation is about options.
            if field.raised or not field.calls or (isinstance(error, ValueError) and bool(field.finite_rows.all())):
                raise
            return Status.MAX_STEPS if "max_num_steps" in str(error) else Status.STEP_TOO_SMALL
        return found if found.shape[0] == len(times) else Status.STEP_TOO_SMALL

    def _odeint(self, field: _Field, x: Tensor, t: Tensor, **settings: Any) -> Tensor:
        import torchdiffeq

        with warnings.catch_warnings():
            if "min_step" not in self.options:
                # The library hands its default to every solver of scipy's, and most know no such option.
                warnings.filterwarnings("ignore", message=".*no effect for a chosen solver.*")
            found: Tensor = torchdiffeq.odeint(field, x, t, method=self.name, **settings)
        return found

    def _per_element(self, value: float | Tensor, x: Tensor) -> Any:
        if not isinstance(value, Tensor):
            return value
        full = value.detach().to(x.device).expand(x.shape)
        return full.reshape(-1).cpu().numpy() if leaves_torch(self.name) else full

    def _filled(self, problem: InitialValueProblem, t: Tensor) -> dict[str, Any]:
        """The options, with those that the stretch decides."""
        filled = dict(self.options)
        norm = filled.get("norm")
        if norm is not None:
            filled["norm"] = lambda packed: norm(problem.packing.unpack(packed))
        if not adapts(self.name):
            return filled
        low, high = sorted((float(t[0]), float(t[-1])))
        inner: dict[str, list[float]] = {}
        for name in ("step_t", "jump_t"):
            given = filled.pop(name, None)
            values = [] if given is None else torch.as_tensor(given, dtype=torch.float64, device="cpu").tolist()
            inner[name] = [time for time in values if low < time < high]
        # Steps that end where the stretch does: the library steps beyond its last time otherwise.
        inner["step_t"].append(float(t[-1]))
        return filled | {name: t.new_tensor(values) for name, values in inner.items() if values}


class _OutOfStepsError(Exception):
    pass


class _Field:
    """dX/dt as torchdiffeq calls it, on one stretch; it counts steps where the library tells of them.

    Attributes:
        accepted: steps that were taken; the stretch is one where the method tells of none.
        rejected: steps tried in vain.
        calls: evaluations.
        raised: whether an evaluation raised an error.
    """

    def __init__(
        self, scheme: LibrarySteps, problem: InitialValueProblem, x: Tensor, ends: tuple[float, float], budget: int
    ) -> None:
        self._dynamics, self._budget = scheme.dynamics, budget
        self._middle = (ends[0] + ends[1]) / 2
        self._like = torch.empty((), dtype=real(x.dtype), device=x.device)
        self._breaks = [t for t in ends if problem.jumps and t in problem.breakpoints]
        self._all = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        self._first: Tensor | None = None
        self._last: Tensor | None = None
        self.rejected, self.raised, self.calls, self._tried = 0, False, 0, 0
        # The library warns of callbacks that a method never makes.
        valid: set[str] = solvers()[scheme.name].valid_callbacks()  # type: ignore[attr-defined]
        self._tells, self._adapts = bool(valid), "callback_reject_step" in valid
        if self._tells:
            self.callback_step = self._try
        if self._adapts:
            self.callback_reject_step = self._reject

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        time = (t.real if t.is_complex() else t).to(self._like).reshape(1, 1)
        middle = torch.full_like(time, self._middle)
        for at in self._breaks:
            # Next to a breakpoint, on the stretch's side of it.
            edge = torch.nextafter(torch.full_like(time, at), middle)
            time = torch.minimum(time, edge) if at > self._middle else torch.maximum(time, edge)
        inside = torch.full((1, 1), self._middle, dtype=torch.float64, device=x.device)
        try:
            value = self._dynamics.velocity(x, Moment(0, 0, time.to(torch.float64), inside))
        except Exception:
            self.raised = True
            raise
        self._first = value.detach() if self._first is None else self._first
        self._last = value.detach()
        return value

    @property
    def accepted(self) -> int:
        return self._tried - self.rejected if self._tells else 1

    @property
    def finite_rows(self) -> Tensor:
        """The rows whose first evaluation was finite, or if all were, whose last one was."""
        if self._first is None or self._last is None:
            return self._all
        first = finite_rows(self._first)
        return finite_rows(self._last) if bool(first.all()) else first

    def _try(self, t0: Tensor, x0: Tensor, dt: Tensor) -> None:
        # Fixed steps are as many as were asked for.
        if self._adapts and self._tried >= self._budget:
            raise _OutOfStepsError
        self._tried += 1

    def _reject(self, t0: Tensor, x0: Tensor, dt: Tensor) -> None:
        self.rejected += 1
