import numpy as np
import pytest
import sympy
import torch

from cde_nets.estimators.tangent import tangent_fields


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("dim", "degree"), [(2, 1), (3, 2), (4, 3), (3, 4)])
def test_fields_are_tangent_as_polynomials_in_the_very_coefficients(dim, degree, dtype):
    fields = tangent_fields(dim, 2, degree, seed=3, dtype=dtype)
    x = sympy.symbols(f"x:{dim}")
    monomials = [sympy.prod(v ** int(a) for v, a in zip(x, row, strict=True)) for row in fields.exponents]
    for field in fields.coefficients.double().tolist():
        along = sum(
            x[j] * sympy.Rational(c) * monomial
            for j, row in enumerate(field)
            for c, monomial in zip(row, monomials, strict=True)
            if c
        )
        assert sympy.expand(along) == 0
        assert any(c for row in field for c in row)


def test_fields_have_the_size_that_is_said():
    for degree in (1, 2, 3):
        fields = tangent_fields(6, 400, degree, seed=1, dtype=torch.float64)
        x = torch.nn.functional.normalize(
            torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double(), dim=1
        )
        square = fields.evaluate(x * 6**0.5).square().sum(2).mean()
        assert float(square) == pytest.approx(6, rel=0.05)


def test_float32_has_the_same_numbers():
    single, double = (tangent_fields(5, 3, 2, seed=9, dtype=dtype) for dtype in (torch.float32, torch.float64))
    np.testing.assert_array_equal(single.coefficients.double(), double.coefficients)
