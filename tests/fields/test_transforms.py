"""Every family under torch.func, torch.compile and in half precision."""

import pytest
import torch

BF16 = torch.bfloat16


def draw(family, rng, rows=4):
    """States, controls (one a row) and cotangents."""
    sizes = (family.dim, family.count, family.dim)
    return [torch.randn(rows, size, dtype=torch.float64, generator=rng) for size in sizes]


def everything(family, x, u, w):
    """All that a family computes, flat."""
    return [
        family.velocity(x, u),
        *family.pullback(x, u, w),
        family.moments(x, u, w),
        family.evaluate(x),
        family.divergence(x, u),
    ]


def close(got, want, tolerance=1e-12):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def test_vmap_over_rows_gives_the_rows(family, rng):
    x, u, w = draw(family, rng)
    got = torch.func.vmap(lambda *row: [t[0] for t in everything(family, *(r[None] for r in row))])(x, u, w)
    close(got, everything(family, x, u, w))


def test_vmap_over_controls_gives_one_answer_a_control(family, rng):
    x, controls, w = draw(family, rng)
    got = torch.func.vmap(lambda u: everything(family, x, u, w))(controls)
    close(got, [torch.stack(t) for t in zip(*(everything(family, x, u, w) for u in controls), strict=True)])


@pytest.mark.parametrize("shared", [False, True])
def test_forward_and_reverse_mode_agree_on_everything(family, rng, shared):
    x, u, w = draw(family, rng, 3)
    at = (x, u[0] if shared else u, w)
    tangents = tuple(torch.randn(t.shape, dtype=t.dtype, generator=rng) for t in at)
    value, forward = torch.func.jvp(lambda *at: everything(family, *at), at, tangents)
    close(value, everything(family, *at))
    cotangents = [torch.randn(t.shape, dtype=t.dtype, generator=rng) for t in value]
    back = torch.func.vjp(lambda *at: everything(family, *at), *at)[1](cotangents)
    got = sum((c * t).sum() for c, t in zip(cotangents, forward, strict=True))
    want = sum((g * t).sum() for g, t in zip(back, tangents, strict=True))
    close(got, want, 1e-10)


def test_grad_is_the_gradient_of_autograd(family, rng):
    def square(*at):
        return sum(t.square().sum() for t in everything(family, *at))

    at = draw(family, rng, 3)
    got = torch.func.grad(square, argnums=(0, 1, 2))(*at)
    want = torch.autograd.grad(square(*(t.requires_grad_() for t in at)), at)
    close(got, want, 1e-10)


@pytest.mark.parametrize("shared", [False, True])
def test_compile_sees_one_graph_door_and_all(family, rng, shared, unchecked):
    if not shared and hasattr(family, "base"):
        pytest.skip("a wrapper hands the controls on as they are")
    torch.compiler.reset()
    x, u, w = draw(family, rng, 3)
    at = [t.requires_grad_() for t in (x, u[0] if shared else u, w)]
    compiled = torch.compile(lambda *at: everything(family, *at), fullgraph=True, backend="eager")
    got, want = compiled(*at), everything(family, *at)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    total = [sum(t.square().sum() for t in values) for values in (got, want)]
    close(torch.autograd.grad(total[0], at), torch.autograd.grad(total[1], at))


def test_a_compiled_family_still_refuses_bad_input(build, rng, unchecked):
    torch.compiler.reset()
    family = build(3, torch.float64)
    x, u, _ = draw(family, rng, 3)
    compiled = torch.compile(family.velocity, backend="eager")
    with pytest.raises(ValueError, match=r"x is torch\.float32"):
        compiled(x.float(), u)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rows", [1, 4])
def test_bfloat16_is_near_double_precision(family, rng, rows, shared):
    at = draw(family, rng, rows)
    at[0] = at[0] / at[0].norm(dim=1, keepdim=True) / 2
    at[1] = at[1][0] if shared else at[1]
    # The very numbers that bfloat16 holds, so that only its arithmetic differs.
    narrow = [t.to(BF16) for t in at]
    got = everything(family.to(BF16), *narrow)
    want = everything(family.to(torch.float64), *(t.double() for t in narrow))
    for a, b in zip(got, want, strict=True):
        assert a.dtype == BF16
        assert a.shape == b.shape
        torch.testing.assert_close(a.double(), b, rtol=0.05, atol=0.05 * (1 + float(b.abs().max())))
