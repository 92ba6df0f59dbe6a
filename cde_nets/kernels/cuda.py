"""Calls of the Triton kernels on tensors of a CUDA device; Triton is imported when a flow first goes there."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cde_nets.kernels.codes import RIDGE

# Up to this dimension a row stays in one thread, with all its products unrolled.
LANES = 8
# Beyond it a program multiplies tiles; three of (rows, 128) no longer fit its registers.
WIDEST = 64
# Features that a thread holds, and products of one stage that are unrolled: more takes minutes to compile.
MOST_FEATURES, MOST_PRODUCTS = 64, 2048
# All stages are unrolled: with more, tiles of width 64 take minutes to compile and outgrow the shared memory.
MOST_STAGES = 7
# As many slabs of moments as there are programs: more than keep every multiprocessor busy bring nothing.
MOST_PROGRAMS = 4096


@dataclass(frozen=True)
class Form:
    """What a kernel is compiled for.

    Attributes:
        family: RIDGE or FEATURES.
        dim: of a state.
        terms: coefficients of a ridge field's polynomial, or the number of features.
        width: columns of a tile, or 0 where a state is vectors over the rows.
        parts: tensors that make a state.
        block: rows that a program holds at a time.
        stages: of the tableau.
        used: bit j * stages + l is set where a[j][l] is not 0; row `stages` is b.
        reached: bit j is set where the step's end depends on stage j.
        precision: of `tl.dot`.
        single: whether every state is kept.
        more: whether a program has several blocks, whose moments add up.
        parent: of the monomials of degree >= 2.
        variable: that times the parent gives the monomial.
    """

    family: int
    dim: int
    terms: int
    width: int
    parts: int
    block: int
    stages: int
    used: int
    reached: int
    precision: str = "ieee"
    single: bool = True
    more: bool = False
    parent: tuple[int, ...] = ()
    variable: tuple[int, ...] = ()


def covers(family: int, dim: int, terms: int, dtype: torch.dtype, stages: int) -> bool:
    """Whether there is a kernel; flows of other sizes take the plain steps.

    Args:
        family: RIDGE or FEATURES.
        dim: of a state.
        terms: coefficients of every ridge field's polynomial, or the number of features.
        dtype: of everything.
        stages: of the tableau.
    """
    return refusal(family, dim, terms, dtype, stages) is None


def refusal(family: int, dim: int, terms: int, dtype: torch.dtype, stages: int) -> str | None:
    """Why there is no kernel, or None where there is one; arguments as those of `covers`."""
    if dtype not in (torch.float32, torch.float64):
        return f"The CUDA kernels compute in float32 and float64, not in {dtype}."
    if stages > MOST_STAGES:
        return f"The CUDA kernels take tableaus of at most {MOST_STAGES} stages, not of {stages}."
    if family == RIDGE:
        if dim > WIDEST:
            return f"The CUDA kernels take ridge fields up to dimension {WIDEST}, not {dim}."
        return None
    if dim > LANES or terms > MOST_FEATURES or stages * dim * terms > MOST_PRODUCTS:
        return (
            f"The CUDA kernels take shared features up to dimension {LANES}, {MOST_FEATURES} features and "
            f"{MOST_PRODUCTS} products a step (stages * dim * features), not {dim}, {terms} and {stages * dim * terms}."
        )
    return None


@functools.cache
def available() -> bool:
    """Whether Triton is installed; it is not imported for that."""
    return importlib.util.find_spec("triton") is not None


def kept_numbers(
    x: Tensor, coefficients: Sequence[Tensor], family: int, widths: Tensor, tableau: Tensor, every: int
) -> int:
    """How many numbers the states hold that a way back needs; arguments as those of `forward`."""
    return x.numel() * -(-len(widths) // every)


def forward(
    x: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As the operator `cde_nets::flow`, on a CUDA device.

    Products of float32 are float32's own. Where dim > 8 and `torch.backends.cuda.matmul.allow_tf32` is on, their
    factors are rounded to TF32, whose fraction has 10 bits, as those of torch's products then are.

    Raises:
        NotImplementedError: sizes for which `covers` is false.
    """
    rows, dim = x.shape
    steps, scales, pattern = len(widths), *_weights(widths, tableau, x)
    launch = _launch(_form(u, coefficients, family, pattern, dim, single=True), rows, x.dtype, back=False)
    x, end = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    accepted = torch.empty(rows, dtype=torch.int32, device=x.device)
    kept = x.new_empty(kept_numbers(x, coefficients, family, widths, tableau, every) if keep else 0)
    if rows:
        numbers = _numbers(u, coefficients)
        with _on(x.device):
            _kernels().forward[(launch.blocks,)](
                x,
                *numbers,
                scales,
                end,
                accepted,
                kept,
                rows,
                steps,
                every if keep else 0,
                0 if family else u.shape[-1],
                FORM=launch.form,
                **launch.options,
            )
    return end, accepted, kept


def backward(
    cotangent: Tensor,
    u: Tensor,
    coefficients: Sequence[Tensor],
    family: int,
    widths: Tensor,
    tableau: Tensor,
    every: int,
    kept: Tensor,
    accepted: Tensor,
    start_wanted: bool,
) -> tuple[Tensor, Tensor]:
    """As the operator `cde_nets::flow_backward`, on a CUDA device; the same numbers whenever it is called again.

    Raises:
        NotImplementedError: sizes for which `covers` is false.
    """
    rows, dim = cotangent.shape
    scales, pattern = _weights(widths, tableau, u)
    launch = _launch(_form(u, coefficients, family, pattern, dim, single=every == 1), rows, u.dtype, back=True)
    # Every program adds its rows up in a slab of its own, and the slabs are added in their order: no atomics.
    slabs = u.new_zeros(launch.programs, *u.shape)
    start = (
        torch.empty_like(cotangent, memory_format=torch.contiguous_format) if start_wanted else cotangent.new_empty(0)
    )
    if rows:
        room = 0 if every == 1 else every * launch.form.block * dim
        cotangent = cotangent.contiguous()
        numbers = _numbers(u, coefficients)
        with _on(u.device):
            _kernels().backward[(launch.programs,)](
                cotangent,
                *numbers,
                scales,
                cotangent.new_empty(launch.programs * room),
                kept,
                accepted,
                start,
                slabs,
                rows,
                len(widths),
                every,
                0 if family else u.shape[-1],
                room,
                u.numel(),
                FORM=launch.form,
                START=start_wanted,
                **launch.options,
            )
    return start, slabs.sum(0)


@dataclass(frozen=True)
class _Launch:
    """How a kernel is started.

    Attributes:
        form: what it is compiled for.
        blocks: of rows.
        programs: that share them.
        options: Triton's.
    """

    form: Form
    blocks: int
    programs: int
    options: dict[str, Any]


@dataclass(frozen=True)
class _Pattern:
    """Which weights of a tableau are not 0: `stages`, `used` and `reached` of `Form`."""

    stages: int
    used: int
    reached: int


def _form(u: Tensor, coefficients: Sequence[Tensor], family: int, pattern: _Pattern, dim: int, *, single: bool) -> Form:
    """All but the block."""
    terms = u.shape[-1] if family else coefficients[2].shape[1]
    reason = refusal(family, dim, terms, u.dtype, pattern.stages)
    if reason is not None:
        raise NotImplementedError(f"{reason} The plain steps take it.")
    # `tl.dot` takes powers of two from 16 on.
    width = 0 if dim <= LANES else max(16, 1 << (dim - 1).bit_length())
    parent, variable = _tables(*coefficients) if family and coefficients else ((), ())
    return Form(
        family=family,
        dim=dim,
        terms=terms,
        width=width,
        parts=1 if width else dim,
        block=0,
        stages=pattern.stages,
        used=pattern.used,
        reached=pattern.reached,
        precision="tf32" if _tf32() else "ieee",
        single=single,
        parent=parent,
        variable=variable,
    )


def _launch(form: Form, rows: int, dtype: torch.dtype, *, back: bool) -> _Launch:
    """Blocks by size."""
    block, warps = _tile(form, rows, dtype, back=back) if form.width else _lanes(form, rows, dtype, back=back)
    blocks = max(-(-rows // block), 1)
    programs = min(blocks, MOST_PROGRAMS) if back else blocks
    # Products and sums fused into one rounding: Triton's default so far, which it means to change.
    options = {"num_warps": warps, "num_stages": 2, "enable_fp_fusion": True}
    return _Launch(replace(form, block=block, more=programs < blocks), blocks, programs, options)


def _lanes(form: Form, rows: int, dtype: torch.dtype, *, back: bool) -> tuple[int, int]:
    """Rows a program holds, and its warps: one, so that a sum over rows is a few shuffles and never a barrier.

    A scalar of C serves as many products as a thread has rows: two where there are enough rows to leave every
    scheduler of the device two warps (4 * 132 on an H100) and the registers hold them, else one.
    """
    held = (
        form.dim * (2 * form.stages + 3) + (2 * form.terms if form.family else 2 * form.dim) if back else 3 * form.dim
    )
    numbers = held * (2 if dtype == torch.float64 else 1)
    return (64 if rows >= 64 * 1024 and 2 * numbers <= 160 else 32), 1


def _tile(form: Form, rows: int, dtype: torch.dtype, *, back: bool) -> tuple[int, int]:
    """Rows a program holds, and its warps.

    With 64 rows a thread has some 16 sums of a product, which is what fused multiply-adds need to hide what they read
    from shared memory; 32 of width 64 in float64, whose tiles of several stages would outgrow that memory. Fewer rows
    in all are spread over more programs. Twice the warps where the tiles of several stages, or wide ones, would not
    fit the registers of half as many (as compiled for compute capability 9.0).
    """
    most = 32 if form.width == 64 and dtype == torch.float64 else 64
    block = next((size for size in (64, 32) if size <= most and rows >= size * 132), 16)
    warps = block // 16
    return block, 2 * warps if form.width == 64 or (back and form.stages > 1) else warps


def _tf32() -> bool:
    """Whether torch's own products of float32 may be TF32's; a switch per backend since torch 2.9."""
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if precision is None else precision == "tf32"


def _numbers(u: Tensor, coefficients: Sequence[Tensor]) -> list[Tensor]:
    """What drives the kernel, and its coefficients, three whatever the family."""
    u = u.contiguous()
    given = [] if len(coefficients) < 3 else [c.contiguous() for c in coefficients]
    return [u, *given, *[u] * (3 - len(given))]


def _weights(widths: Tensor, tableau: Tensor, like: Tensor) -> tuple[Tensor, _Pattern]:
    """The weights times the widths, (steps, stages + 1, stages), and which are not 0."""
    return _weights_of(tuple(widths.tolist()), tuple(map(tuple, tableau.tolist())), like.dtype, like.device)


@functools.lru_cache(maxsize=256)
def _weights_of(
    widths: tuple[float, ...], tableau: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, _Pattern]:
    weights = torch.tensor(tableau, dtype=torch.float64, device="cpu")
    scales = torch.tensor(widths, dtype=torch.float64, device="cpu")[:, None, None] * weights
    stages = weights.shape[1]
    used = sum(1 << (j * stages + q) for j, row in enumerate(tableau) for q, weight in enumerate(row) if weight)
    reached = 0
    for j in reversed(range(stages)):
        later = any(reached >> q & 1 and tableau[q][j] for q in range(j + 1, stages))
        reached |= bool(tableau[stages][j] or later) << j
    return scales.to(device, dtype), _Pattern(stages, used, reached)


# Read from the device once: they do not change.
_TABLES = WeakTensorKeyDictionary()


def _tables(parent: Tensor, variable: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The monomials' tables, as numbers that a kernel is compiled for."""
    if parent not in _TABLES:
        _TABLES[parent] = tuple(parent.tolist()), tuple(variable.tolist())
    found: tuple[tuple[int, ...], tuple[int, ...]] = _TABLES[parent]
    return found


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton starts kernels on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@functools.cache
def _kernels() -> ModuleType:
    from cde_nets.kernels import triton_walk

    return triton_walk
