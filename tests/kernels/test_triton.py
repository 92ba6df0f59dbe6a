"""The Triton kernels beside autograd through formulas written out here, and beside the C++ kernels.

They run in Triton's interpreter, in a process of its own, as it is chosen when Triton is imported; on a machine with
a CUDA device they run there as well.
"""

import os
import subprocess
import sys
from math import comb

import numpy as np
import pytest
import torch

import cde_nets as cn
from cde_nets import kernels
from cde_nets.kernels import cpu, cuda, native
from cde_nets.kernels.families import packed
from cde_nets.solver.flow.tableau import tableau

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

needs_triton = pytest.mark.skipif(not cuda.available(), reason="Triton is not installed")
runs = pytest.mark.skipif(
    not cuda.available() or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs Triton and a CUDA device; without one, test_in_the_interpreter runs this in a process of its own",
)
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet():
    # The interpreter computes in NumPy, which warns of what a GPU does in silence.
    with np.errstate(all="ignore"):
        yield


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="is what started this process")
def test_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-x", "-rs", __file__],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "needs Triton and a CUDA device" not in done.stdout


def weights(name):
    table = tableau(name)
    rows = [[*row, *[0.0] * (table.stages - len(row))] for row in (*table.a, table.b)]
    return torch.tensor(rows, dtype=torch.float64).reshape(table.stages + 1, table.stages)


def ridge(x, u, fields):
    """sum_i u_i sigma_i(C_i x + b_i), row by row."""
    z = torch.einsum("irk,bk->bir", fields.matrices, x) + fields.offsets
    powers = torch.stack([z**k for k in range(fields.polynomials.shape[1])], -1)
    return torch.einsum("i,ik,birk->br", u, fields.polynomials, powers)


def monomials(x, W, fields):
    """W phi(x), phi(x)_a = x^a."""
    exponents = torch.as_tensor(fields.exponents)
    return (x[:, None, :] ** exponents).prod(-1) @ W.mT


def linear(x, W, fields):
    return x @ W.mT


class Case:
    """A flow, its kernels' arguments, and the same by definition."""

    def __init__(self, fields, velocity, method, rows, dtype, steps=3, every=1, scale=0.4):
        torch.manual_seed(0)
        self.packed, self.velocity, self.fields = packed(fields), velocity, fields
        self.tableau, self.every, self.steps = weights(method), every, steps
        self.widths = torch.linspace(0.1, 0.3, steps, dtype=torch.float64)
        self.x = (0.6 * torch.randn(rows, fields.dim, dtype=torch.float64)).to(dtype)
        self.cotangent = torch.randn(rows, fields.dim, dtype=torch.float64).to(dtype)
        u = (scale * torch.randn(steps, self.tableau.shape[1], fields.count, dtype=torch.float64)).to(dtype)
        self.drive = self.packed.drive(u)

    def rest(self, device="cpu"):
        return [c.to(device) for c in self.packed.coefficients], self.packed.family, self.widths, self.tableau

    def forward(self, keep=True):
        x, drive = self.x.to(DEVICE), self.drive.to(DEVICE)
        return cuda.forward(x, drive, *self.rest(DEVICE), self.every, keep)

    def run(self, start_wanted=True):
        """The end, the steps taken, the cotangents of the start and of what drives the flow."""
        end, accepted, kept = self.forward()
        back = cuda.backward(
            self.cotangent.to(DEVICE),
            self.drive.to(DEVICE),
            *self.rest(DEVICE),
            self.every,
            kept,
            accepted,
            start_wanted,
        )
        return [found.cpu() for found in (end, accepted, *back)]

    def compiled(self):
        """The same from the C++ kernels."""
        end, accepted, kept = cpu.forward(self.x, self.drive, *self.rest(), self.every, True)
        back = cpu.backward(self.cotangent, self.drive, *self.rest(), self.every, kept, accepted, True)
        return end, accepted, *back

    def defined(self, rows=slice(None)):
        """By definition and autograd, in float64, of rows that finish."""
        fields = self.fields.double() if self.fields.dtype != torch.float64 else self.fields
        x = self.x[rows].double().requires_grad_()
        drive = self.drive.double().requires_grad_()
        state, s = x, self.tableau.shape[1]
        for n in range(self.steps):
            h, slopes = self.widths[n], []
            for j in range(s):
                at = state + h * sum((self.tableau[j, q] * slopes[q] for q in range(j)), torch.zeros_like(state))
                slopes.append(self.velocity(at, drive[n, j], fields))
            state = state + h * sum(self.tableau[s, q] * slopes[q] for q in range(s))
        back = torch.autograd.grad((state * self.cotangent[rows].double()).sum(), [x, drive], materialize_grads=True)
        return state.detach(), *back


def close(found, expected, dtype):
    scale = expected.abs().max().item()
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=tolerance * max(scale, 1e-30))


FAMILIES = {
    "ridge in the plane": (lambda dtype: cn.RidgeFields.random(2, 3, 2, seed=0, dtype=dtype), ridge),
    "ridge of degree 1": (lambda dtype: cn.RidgeFields.random(3, 2, 1, seed=0, dtype=dtype), ridge),
    "ridge on the line": (lambda dtype: cn.RidgeFields.random(1, 2, 3, seed=0, dtype=dtype), ridge),
    "ridge in tiles": (lambda dtype: cn.RidgeFields.random(11, 2, 3, seed=0, dtype=dtype), ridge),
    "ridge in full tiles": (lambda dtype: cn.RidgeFields.random(16, 2, 2, seed=0, dtype=dtype), ridge),
    "monomials": (lambda dtype: cn.PolynomialFields.random(3, 2, 2, seed=0, dtype=dtype), monomials),
    "monomials in the plane": (lambda dtype: cn.PolynomialFields.random(2, 3, 3, seed=0, dtype=dtype), monomials),
    "monomials of degree 1": (lambda dtype: cn.PolynomialFields.random(3, 2, 1, seed=0, dtype=dtype), monomials),
    "monomials on the line": (lambda dtype: cn.PolynomialFields.random(1, 2, 3, seed=0, dtype=dtype), monomials),
    "linear": (lambda dtype: cn.LinearFields.random(3, 2, seed=0, dtype=dtype), linear),
}


def make(family, method, dtype=torch.float64, rows=None, **options):
    fields, velocity = FAMILIES[family]
    # Two blocks: few rows come in blocks of 16 where they are tiles, else of 32.
    rows = (18 if "tiles" in family else 34) if rows is None else rows
    return Case(fields(dtype), velocity, method, rows, dtype, **options)


@runs
@pytest.mark.parametrize(
    ("method", "family", "every"),
    [
        ("euler", "ridge in the plane", 1),
        ("dopri5", "ridge in the plane", 3),
        ("rk4", "ridge in tiles", 3),
        ("midpoint", "ridge in tiles", 1),
        ("rk4", "monomials in the plane", 3),
        ("euler", "monomials in the plane", 1),
    ],
)
def test_tableaus_against_autograd_through_the_definition(family, every, method):
    case = make(family, method, rows=5, every=every, steps=4 if method == "euler" else 2)
    end, accepted, start, moments = case.run()
    assert (accepted == case.steps).all()
    for found, expected in zip((end, start, moments), case.defined(), strict=True):
        close(found, expected, torch.float64)


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_both_precisions(family, dtype):
    case = make(family, "euler", dtype, rows=5, every=2)
    end, _, start, moments = case.run()
    assert end.dtype == start.dtype == moments.dtype == dtype
    for found, expected in zip((end, start, moments), case.defined(), strict=True):
        close(found, expected, dtype)


@runs
@pytest.mark.skipif(native().library is None, reason=f"The CPU kernels are {native().description}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", ["ridge in the plane", "ridge in full tiles", "monomials"])
def test_against_the_cpu_kernels_where_rows_fail(family, dtype):
    case = make(family, "euler", dtype, rows=18, steps=4, every=3)
    # One starts outside the finite numbers, one leaves them at once, one later.
    case.x[3, 0], case.x[5], case.x[17] = float("nan"), 1e30 if dtype == torch.float32 else 1e200, 1e5
    case.cotangent[5] = float("inf")
    found, expected = case.run(), case.compiled()
    assert found[1].tolist() == expected[1].tolist()
    steps = found[1].tolist()
    assert steps[3] == 0
    assert steps[5] < case.steps
    failed = found[1] < case.steps
    assert 2 <= failed.sum() < len(failed)
    for one, other in zip(found[2:], expected[2:], strict=True):
        assert torch.isfinite(one).all()
        close(one, other, dtype)
    assert not found[2][failed].any()
    finite = ~failed
    close(found[0][finite], expected[0][finite], dtype)
    # The last finite state: what the same rows give in as many steps as they took.
    for row in (3, 5, 17):
        torch.testing.assert_close(found[0][row], expected[0][row], rtol=1e-4, atol=0, equal_nan=True)
    for one, other in zip(found[2:], case.defined(finite)[1:], strict=True):
        close(one[finite] if one is found[2] else one, other, dtype)


@runs
@pytest.mark.parametrize("rows", [0, 33])
@pytest.mark.parametrize("family", ["ridge in the plane", "ridge in tiles", "monomials"])
def test_rows_that_do_not_fill_a_block(family, rows):
    case = make(family, "euler", rows=rows, steps=2)
    end, accepted, start, moments = case.run()
    assert accepted.shape == (rows,)
    for found, expected in zip((end, start, moments), case.defined(), strict=True):
        assert found.shape == expected.shape
        if rows:
            close(found, expected, torch.float64)
    assert rows or not moments.any()


@runs
@pytest.mark.parametrize("family", ["ridge in the plane", "ridge in tiles", "monomials"])
def test_programs_that_take_several_blocks(family, monkeypatch):
    monkeypatch.setattr(cuda, "MOST_PROGRAMS", 2)
    case = make(family, "euler", rows=40 if "tiles" in family else 70, every=2)
    _, _, start, moments = case.run()
    for found, expected in zip((start, moments), case.defined()[1:], strict=True):
        close(found, expected, torch.float64)


@runs
@pytest.mark.parametrize("family", ["ridge in the plane", "ridge in tiles", "linear"])
def test_without_the_start_and_without_states(family):
    case = make(family, "euler", every=2)
    end, _, start, moments = case.run()
    nothing, same = case.run(start_wanted=False)[2:]
    assert start.shape == case.x.shape
    assert nothing.shape == (0,)
    assert torch.equal(same, moments)
    bare, accepted, kept = case.forward(keep=False)
    assert kept.numel() == 0
    assert torch.equal(bare.cpu(), end)
    assert (accepted == case.steps).all()


@runs
@pytest.mark.parametrize("family", ["ridge in the plane", "ridge in tiles", "monomials"])
def test_the_same_numbers_every_time(family):
    case = make(family, "euler", torch.float32, steps=2)
    for one, other in zip(case.run(), case.run(), strict=True):
        assert torch.equal(one, other)


@runs
@pytest.mark.parametrize("family", ["ridge in the plane", "ridge in tiles"])
def test_stages_that_nothing_depends_on(family):
    # Its second stage feeds nothing and overflows; its third is Euler's step.
    case = make(family, "euler", steps=2)
    case.tableau = torch.tensor([[0, 0, 0], [1e300, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.float64)
    case.drive = torch.cat([case.drive, case.drive, case.drive], 1)
    end, accepted, start, moments = case.run()
    assert (accepted == case.steps).all()
    euler = make(family, "euler", steps=2)
    for found, expected in zip((end, start, moments[:, 2:]), euler.defined(), strict=True):
        close(found, expected, torch.float64)
    assert not moments[:, :2].any()


@runs
def test_the_kernels_really_run(monkeypatch):
    from cde_nets.kernels import triton_walk

    launched = []

    class Counted:
        def __init__(self, name):
            self.name, self.kernel = name, getattr(triton_walk, name)

        def __getitem__(self, grid):
            launched.append((self.name, grid))
            return self.kernel[grid]

    for name in ("forward", "backward"):
        assert ("Interpreted" in type(getattr(triton_walk, name)).__name__) == INTERPRETED
        monkeypatch.setattr(triton_walk, name, Counted(name))
    make("ridge in the plane", "euler", rows=70).run()
    assert launched == [("forward", (3,)), ("backward", (3,))]


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ((kernels.RIDGE, 65, 3, torch.float32, 1), "up to dimension 64, not 65"),
        ((kernels.RIDGE, 8, 3, torch.float16, 1), "not in torch.float16"),
        ((kernels.RIDGE, 8, 3, torch.float32, 8), "at most 7 stages, not of 8"),
        ((kernels.FEATURES, 9, comb(11, 2), torch.float32, 1), "not 9, 55 and 495"),
        ((kernels.FEATURES, 8, 45, torch.float32, 7), "not 8, 45 and 2520"),
    ],
)
def test_what_is_not_covered_is_refused_by_its_reason(sizes, reason):
    assert not cuda.covers(*sizes)
    assert reason in cuda.refusal(*sizes)


def test_what_is_covered():
    for dim, count in ((8, 7), (32, 20), (64, 7), (2, 5), (20, 5)):
        for dtype in (torch.float32, torch.float64):
            assert cuda.covers(kernels.RIDGE, dim, 3, dtype, 6), (dim, count)
    assert cuda.covers(kernels.FEATURES, 8, 45, torch.float32, 1)


def test_a_flow_that_is_not_covered_does_not_start():
    case = Case(cn.RidgeFields.random(65, 2, 2, seed=0), ridge, "euler", 3, torch.float32)
    with pytest.raises(NotImplementedError, match="up to dimension 64, not 65"):
        cuda.forward(case.x, case.drive, *case.rest(), 1, True)


@pytest.mark.skipif(INTERPRETED, reason="has nothing to interpret")
def test_the_package_works_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import cde_nets.kernels.cuda as cuda;"
        "sys.exit(cuda.available() or any(name.startswith('cde_nets.kernels.triton') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
