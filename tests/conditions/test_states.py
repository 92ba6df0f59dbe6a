"""States of every form, rows that are not finite, and input that is refused."""

import math

import pytest
import torch

import cde_nets as cn

F64 = torch.float64
CONDITIONS = {
    "spectral_radius": lambda problem, z: cn.spectral_radius(problem, z).value,
    "spectral_norm": lambda problem, z: cn.spectral_norm(problem, z).value,
    "smallest_eigenvalue": lambda problem, z: cn.smallest_eigenvalue(problem, z).value,
    "eigenvalue_hinge": lambda problem, z: cn.eigenvalue_hinge(problem, z, 2.0),
    "gershgorin_bound": cn.gershgorin_bound,
    "gershgorin_hinge": lambda problem, z: cn.gershgorin_hinge(problem, z, 0.9, "frobenius"),
    "squared_frobenius": lambda problem, z: cn.squared_frobenius(problem, z, samples=None),
    "sampled": lambda problem, z: cn.squared_frobenius(
        problem, z, samples=3, generator=torch.Generator().manual_seed(0)
    ),
}
ESTIMATES = {"spectral_radius": cn.spectral_radius, "spectral_norm": cn.spectral_norm}
ESTIMATES["smallest_eigenvalue"] = cn.smallest_eigenvalue
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def conditions(J):
    """All of a dense matrix."""
    A = torch.eye(len(J), dtype=F64) - J
    A = A.T @ A
    smallest, rest = torch.linalg.eigvalsh(A)[0], A - torch.eye(len(J), dtype=F64)
    return {
        "spectral_radius": torch.linalg.eigvals(J).abs().max(),
        "spectral_norm": torch.linalg.matrix_norm(J, 2),
        "smallest_eigenvalue": smallest,
        "eigenvalue_hinge": (2 - smallest).clamp(min=0),
        "gershgorin_bound": 1 - torch.linalg.matrix_norm(rest, torch.inf),
        "gershgorin_hinge": (math.sqrt(len(J)) * torch.linalg.matrix_norm(rest) - 0.1).clamp(min=0),
        "squared_frobenius": J.square().sum(),
    }


def check(problem, z, jacobians):
    for name, condition in CONDITIONS.items():
        if name != "sampled":
            expected = torch.stack([conditions(J)[name] for J in jacobians])
            torch.testing.assert_close(condition(problem, z), expected, rtol=1e-11, atol=1e-12)


def dense(problem, z):
    """J of every row by torch.autograd, one row's function at a time."""
    packed = problem.packing.pack(z)

    def row(k):
        def function(x):
            return problem.map(torch.cat([packed[:k], x[None], packed[k + 1 :]]))[k]

        return torch.autograd.functional.jacobian(function, packed[k])

    return [row(k) for k in range(len(packed))]


def test_forms_of_states(bent, normal):
    a, b = normal(4, 4, seed=1, scale=0.4), normal(3, 4, seed=2)
    z = normal(3, 4, seed=3, scale=0.5)
    edges = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 0]], dtype=F64) / 2

    def parts(state, a):
        p, (q,) = state["p"], state["q"]
        return {"p": torch.tanh(q[:, 0] @ a[:2, :2] + p), "q": (torch.sin(p[:, None] @ a[2:, 2:]) + 0.1 * q**2,)}

    nested = {"p": z[:, :2], "q": (z[:, None, 2:],)}
    problems = {
        "plain": (cn.FixedPointProblem(bent, z, args=(a, b)), z),
        "root": (cn.FixedPointProblem.root(lambda z: bent(z, a, b) - z, z), z),
        "one row": (cn.FixedPointProblem(lambda z: bent(z[None], a, b[:1])[0], z[0]), z[0]),
        "images": (
            cn.FixedPointProblem(lambda z: bent(z.flatten(1), a, b).view_as(z), z.view(3, 1, 2, 2)),
            z.view(3, 1, 2, 2),
        ),
        "nested": (cn.FixedPointProblem(parts, nested, args=(a,)), nested),
        "coupled": (cn.FixedPointProblem(lambda z: torch.tanh(edges @ z @ a + b), z, coupled=True), z),
    }
    for name, (problem, state) in problems.items():
        jacobians = dense(problem, state)
        assert len(jacobians) == (1 if name in ("one row", "coupled") else 3)
        check(problem, state, jacobians)
    torch.testing.assert_close(torch.stack(dense(*problems["plain"])), bent.jacobian(z, a, b))


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_row_does_not_depend_on_the_others(bent, normal, name):
    a, b, z = normal(6, 6, seed=1, scale=0.4), normal(5, 6, seed=2), normal(5, 6, seed=3, scale=0.5)
    together = CONDITIONS[name](cn.FixedPointProblem(bent, z, args=(a, b)), z)
    if name == "sampled":
        return
    for row in range(5):
        alone = CONDITIONS[name](
            cn.FixedPointProblem(bent, z[row : row + 1], args=(a, b[row : row + 1])), z[row : row + 1]
        )
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-13, atol=1e-15)


def test_rows_that_need_more_steps_do_not_hold_the_others_to_them(at, kinds, normal):
    easy = torch.diag(torch.linspace(0, 1, 40, dtype=F64) ** 12)
    J = torch.stack([easy, normal(40, 40, seed=1, scale=0.15), easy])
    found, alone = cn.spectral_radius(*at(J)), cn.spectral_radius(*at(J[:1]))
    assert found.products > alone.products
    # The easy row ended where it ends alone, and kept what it had.
    torch.testing.assert_close(found.residual[0], alone.residual[0], rtol=1e-3, atol=0)
    assert float(found.residual[0]) > 1e-14


def spoilt(where, normal):
    """Five rows of which the second is not finite in its state, its input, its map or its Jacobian."""
    z, b = normal(5, 3, seed=3, scale=0.5), normal(5, 3, seed=2)
    if where == "state":
        z[1, 2] = math.nan
    elif where == "input":
        b[1, 0] = math.nan
    elif where == "map":
        b[1, 0] = math.inf
    else:
        z[1, 1] = 0.0
    return z, b


@pytest.mark.parametrize("where", ["state", "input", "map", "jacobian"])
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_row_that_is_not_finite_leaves_the_others_and_what_they_share_alone(normal, name, where):
    a = normal(3, 3, seed=1, scale=0.4).requires_grad_()

    def function(z, a, b):
        # The root has an infinite slope at 0.
        inner, outer = (torch.zeros_like(b), b) if where == "map" else (b, torch.zeros_like(b))
        return torch.tanh(z @ a.T + inner) + z.abs().sqrt() / 5 + outer

    def run(z, b, drawn):
        if name == "sampled":
            # The signs belong to places.
            torch.manual_seed(0)
            signs = torch.randint(0, 2, (3, 5, 3))[:, drawn]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "randint", lambda *_, **__: signs)
                return CONDITIONS[name](cn.FixedPointProblem(function, z, args=(a, b)), z)
        return CONDITIONS[name](cn.FixedPointProblem(function, z, args=(a, b)), z)

    z, b = spoilt(where, normal)
    z.requires_grad_()
    others = [0, 2, 3, 4]
    found = run(z, b, slice(None))
    healthy = run(z[others], b[others], others)
    assert found[1].isnan()
    torch.testing.assert_close(found[others], healthy, rtol=1e-12, atol=1e-13)
    mine = torch.autograd.grad(found.sum(), (a, z))
    expected = torch.autograd.grad(healthy.sum(), (a, z))
    torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ESTIMATES)
def test_statuses_of_rows_that_are_not_finite(normal, name):
    a = normal(3, 3, seed=1, scale=0.4)
    for where in ("state", "input", "jacobian"):
        z, b = spoilt(where, normal)
        found = ESTIMATES[name](
            cn.FixedPointProblem(lambda z, b: z @ a.T + z.abs().sqrt() / 5 + b, torch.zeros_like(z), args=(b,)), z
        )
        assert found.words() == ["converged", "diverged", *["converged"] * 3]
        assert found.succeeded.tolist() == [True, False, True, True, True]
        assert found.value.isnan().tolist() == found.residual.isnan().tolist() == (~found.succeeded).tolist()
    nothing = ESTIMATES[name](cn.FixedPointProblem(lambda z: z * math.nan, torch.zeros(2, 3)), torch.ones(2, 3))
    assert nothing.words() == ["diverged"] * 2
    assert nothing.value.isnan().all()


@pytest.mark.parametrize("name", CONDITIONS)
def test_no_rows(name):
    z = torch.zeros(0, 3)
    assert CONDITIONS[name](cn.FixedPointProblem(torch.tanh, z), z).shape == (0,)


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_problem_is_left_as_it_was(bent, normal, name):
    problem = cn.FixedPointProblem(bent, torch.zeros(2, 3, dtype=F64), args=(normal(3, 3), normal(2, 3)))
    CONDITIONS[name](problem, normal(2, 3, seed=1))
    assert problem.evaluations == problem.products == 0


def test_products_are_counted(bent, normal):
    made = 0

    class Counted(torch.autograd.Function):
        """The identity, which counts the products with its Jacobian and the transpose."""

        generate_vmap_rule = False

        @staticmethod
        def forward(x):
            return x.view_as(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            nonlocal made
            made += 1
            return g

        @staticmethod
        def jvp(ctx, t):
            nonlocal made
            made += 1
            return t.view_as(t)

    a, b, z = normal(20, 20, scale=0.2), normal(2, 20), normal(2, 20, seed=1)
    problem = cn.FixedPointProblem(lambda z: bent(Counted.apply(z), a, b), z)
    for estimate in ESTIMATES.values():
        made = 0
        assert estimate(problem, z, max_steps=7).products == made > 6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_every_device_and_dtype(bent, normal, device, dtype):
    exact = [normal(3, 8, seed=3, scale=0.5), normal(8, 8, seed=1, scale=0.4), normal(3, 8, seed=2)]
    z, a, b = (x.to(device, dtype) for x in exact)
    expected = bent.jacobian(*exact)
    for name, condition in CONDITIONS.items():
        if name != "sampled":
            found = condition(cn.FixedPointProblem(bent, z, args=(a, b)), z)
            assert found.dtype == dtype
            assert found.device.type == device
            known = torch.stack([conditions(J)[name] for J in expected])
            torch.testing.assert_close(found.cpu().double(), known, rtol=0, atol=300 * torch.finfo(dtype).eps)
    assert cn.squared_frobenius(cn.FixedPointProblem(bent, z, args=(a, b)), z, samples=2).dtype == dtype


@pytest.mark.parametrize("name", CONDITIONS)
def test_states_that_are_refused(name, bad_input):
    condition = CONDITIONS[name]
    for dtype in (torch.complex128, torch.bfloat16):
        z = torch.zeros(2, 3, dtype=dtype)
        with pytest.raises(ValueError, match=f"float32 or float64; got {dtype}"):
            condition(cn.FixedPointProblem(lambda z: 0.5 * z, z), z)
    problem = cn.FixedPointProblem(torch.tanh, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"z must have the state's shape \(2, 3\); got shape \(2, 4\)"):
        condition(problem, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"z must be torch.float32 on cpu"):
        condition(problem, torch.zeros(2, 3, dtype=F64))
    with pytest.raises(ValueError, match="has no numbers"):
        condition(cn.FixedPointProblem(torch.tanh, torch.zeros(2, 0)), torch.zeros(2, 0))
    with pytest.raises(ValueError, match="must be a FixedPointProblem; got a function"):
        condition(lambda z: z, torch.zeros(2, 3))


def never(z):
    raise AssertionError("work has started")


@pytest.mark.parametrize(
    ("call", "options", "words"),
    [
        (call, options, words)
        for call in (*ESTIMATES.values(), lambda problem, z, **rest: cn.eigenvalue_hinge(problem, z, 0.1, **rest))
        for options, words in (
            ({"tolerance": 0.0}, "tolerance must be a number above 0 and below 1; got 0.0"),
            ({"tolerance": "1e-3"}, "tolerance must be a number"),
            ({"max_steps": 0}, "max_steps must be an integer of at least 1; got 0"),
            ({"max_steps": 2.5}, "max_steps must be an integer of at least 1; got 2.5"),
            ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        )
    ]
    + [
        (cn.squared_frobenius, {"samples": 0}, "samples must be an integer of at least 1; got 0"),
        (cn.squared_frobenius, {"samples": True}, "samples must be an integer of at least 1; got True"),
        (cn.gershgorin_bound, {"norm": "inf"}, "gershgorin_bound has no norm 'inf'; did you mean 'infinity'"),
        (cn.gershgorin_hinge, {"margin": -0.1}, "margin must be a number from 0 to 1; got -0.1"),
        (cn.eigenvalue_hinge, {"eps": math.nan}, "eps must be a number above 0"),
    ],
)
def test_options_are_checked_before_any_work(call, options, words, bad_input):
    with pytest.raises(ValueError, match=words):
        call(cn.FixedPointProblem(never, torch.zeros(2, 3)), torch.zeros(2, 3), **options)


def test_an_option_that_does_not_exist(bad_input):
    problem = cn.FixedPointProblem(never, torch.zeros(2, 3))
    with pytest.raises(TypeError, match="spectral_radius has no option 'max_step'; did you mean 'max_steps'"):
        cn.spectral_radius(problem, torch.zeros(2, 3), max_step=3)
    with pytest.raises(TypeError, match="squared_frobenius has no option 'sample'; did you mean 'samples'"):
        cn.squared_frobenius(problem, torch.zeros(2, 3), sample=3)
