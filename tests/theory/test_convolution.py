"""Convolutional programs against a direct loop, scipy's correlation and plain ridge programs."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import correlate2d

from theory import ConvolutionProgram, RidgeProgram

P = 1048573


def polynomial(coefficients, r):
    return sum((c * r**k for k, c in enumerate(coefficients)), Fraction(0))


def oracle(shape, kernels, outputs, inputs, offsets, inner, outer, x):
    """The definition, loop by loop, in Fractions."""
    channels, height, width = shape
    size = kernels.shape[-1]
    state = {
        (c, i, j): polynomial(inner, x[(i * width + j) * channels + c])
        for c in range(channels) for i in range(height) for j in range(width)
    }  # fmt: skip
    fields = []
    for f in range(len(kernels)):
        values = [Fraction(0)] * (channels * height * width)
        for out in range(channels) if outputs is None else [outputs[f]]:
            for i in range(height):
                for j in range(width):
                    z = offsets[f][out] if outputs is None else offsets[f]
                    for c in range(channels) if inputs is None else [inputs[f]]:
                        kernel = (
                            kernels[f, out, c] if outputs is None else kernels[f, c] if inputs is None else kernels[f]
                        )
                        for a in range(size):
                            for b in range(size):
                                at = (c, i + a - size // 2, j + b - size // 2)
                                z += kernel[a, b] * state.get(at, 0)  # zeros around inner(x), not inner(0)
                    values[(i * width + j) * channels + out] = polynomial(outer[f], z)
        fields.append(values)
    return fields


def draw(rng, shape):
    return np.frompyfunc(lambda a, b: Fraction(int(a), int(b)), 2, 1)(
        rng.integers(-9, 10, shape), rng.integers(1, 5, shape)
    )


def case(rng, kind, shape, size, d=3):
    channels = shape[0]
    lead = {"dense": (d, channels, channels), "row": (d, channels), "stencil": (d,)}[kind]
    kernels = draw(rng, (*lead, size, size))
    outputs = None if kind == "dense" else rng.integers(0, channels, d)
    inputs = rng.integers(0, channels, d) if kind == "stencil" else None
    offsets = draw(rng, (d, channels) if kind == "dense" else d)
    return shape, kernels, outputs, inputs, offsets, draw(rng, 3), draw(rng, (d, 3))


@pytest.mark.parametrize("kind", ["dense", "row", "stencil"])
@pytest.mark.parametrize(("shape", "size"), [((2, 3, 4), 3), ((3, 2, 1), 1), ((1, 3, 3), 5), ((2, 1, 4), 3)])
def test_against_the_definition(kind, shape, size):
    rng = np.random.default_rng(size)
    arguments = case(rng, kind, shape, size)
    x = draw(rng, (2, int(np.prod(shape))))
    program = ConvolutionProgram(*arguments)
    assert program.kind == kind
    assert program.evaluate(x).tolist() == [oracle(*arguments, point) for point in x]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_against_scipys_correlation(size):
    rng = np.random.default_rng(size)
    channels, height, width, d = 3, 4, 5, 4
    kernels, outputs = rng.integers(-5, 6, (d, channels, size, size)), rng.integers(0, channels, d)
    offsets, inner, outer = rng.integers(-5, 6, d), np.array([2, 1, 1]), rng.integers(-5, 6, (d, 4))
    program = ConvolutionProgram((channels, height, width), kernels, outputs, None, offsets, inner, outer)
    image = rng.integers(-3, 4, (height, width, channels))
    y = 2 + image + image**2
    expected = np.zeros((d, height, width, channels), dtype=np.int64)
    for i in range(d):
        z = offsets[i] + sum(correlate2d(y[:, :, c], kernels[i, c], mode="same") for c in range(channels))
        expected[i, :, :, outputs[i]] = sum(outer[i, k] * z**k for k in range(4))
    flat = image.reshape(1, -1)
    assert program.evaluate(flat)[0].tolist() == expected.reshape(d, -1).tolist()
    assert program.evaluate(flat, P)[0].tolist() == (expected.reshape(d, -1) % P).tolist()


def test_a_dense_convolution_is_a_ridge_program():
    # Without inner polynomial, fields are sigma(Cx + b): read C off the Jacobian of the linear part.
    rng = np.random.default_rng(5)
    shape, m = (2, 2, 2), 8
    kernels, offsets = rng.standard_normal((3, 2, 2, 3, 3)), rng.standard_normal((3, 2))
    outer = rng.standard_normal((3, 4))
    linear = ConvolutionProgram(shape, kernels, None, None, offsets, [0, 1], np.tile([0, 1], (3, 1)))
    columns = linear.jacobian_product(np.zeros((m, m), dtype=int), np.eye(m, dtype=int))
    ridge = RidgeProgram(columns.transpose(1, 2, 0), linear.evaluate(np.zeros((1, m)))[0], outer)
    program = ConvolutionProgram(shape, kernels, None, None, offsets, [0, 1], outer)
    x, v = rng.standard_normal((2, 5, m))
    assert program.evaluate(x, P).tolist() == ridge.evaluate(x, P).tolist()
    assert program.jacobian_product(x, v).tolist() == ridge.jacobian_product(x, v).tolist()


def test_a_stencil_is_a_row_of_mostly_zeros():
    rng = np.random.default_rng(6)
    d, channels = 6, 4
    kernels, outputs, inputs = rng.standard_normal((d, 3, 3)), rng.integers(0, 4, d), rng.integers(0, 4, d)
    wide = np.zeros((d, channels, 3, 3))
    wide[np.arange(d), inputs] = kernels
    rest = rng.standard_normal(d), np.array([0.5, 1.0]), rng.standard_normal((d, 3))
    stencil = ConvolutionProgram((channels, 3, 3), kernels, outputs, inputs, *rest)
    row = ConvolutionProgram((channels, 3, 3), wide, outputs, None, *rest)
    x = rng.standard_normal((2, 36))
    assert stencil.evaluate(x).tolist() == row.evaluate(x).tolist()
    assert stencil.digest() != row.digest()


def test_in_bulk():
    # The size of a real stage: fields on 16 channels.
    rng = np.random.default_rng(7)
    d = 250
    program = ConvolutionProgram(
        (16, 3, 3), rng.standard_normal((d, 16, 3, 3)).astype(np.float32), np.arange(d) % 16, None,
        np.zeros(d, dtype=np.float32), np.array([0, 1], dtype=np.float32),
        rng.standard_normal((d, 4)).astype(np.float32),
    )  # fmt: skip
    x = rng.standard_normal((50, 144)).astype(np.float32)
    modular, exact = program.evaluate(x, P), program.evaluate(x[7:8])[0]
    assert modular.shape == (50, d, 144)
    assert [v.numerator * pow(v.denominator, -1, P) % P for v in exact.flat] == modular[7].ravel().tolist()
    # A field moves its own channel alone.
    channel = np.arange(144) % 16
    assert not modular[:, channel != (np.arange(d) % 16)[:, None]].any()


def changed(**new):
    arguments = {
        "shape": (2, 3, 3), "kernels": np.ones((4, 2, 3, 3)), "outputs": [0, 1, 0, 1], "inputs": None,
        "offsets": np.ones(4), "inner": [0, 1], "outer": np.ones((4, 2)),
    }  # fmt: skip
    return arguments | new


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"shape": (2, 3)}, r"shape is \(2, 3\), expected positive"),
        ({"shape": (2, 0, 3)}, r"shape is \(2, 0, 3\), expected positive"),
        ({"kernels": np.ones((4, 3))}, r"kernels have shape \(4, 3\), expected"),
        ({"kernels": np.ones((4, 3, 3, 3))}, r"kernels have shape \(4, 3, 3, 3\), expected \(any, 2, any, any\)"),
        ({"kernels": np.ones((4, 2, 2, 2))}, "kernels are 2 by 2, expected odd and square"),
        ({"kernels": np.ones((4, 2, 1, 3))}, "kernels are 1 by 3, expected odd and square"),
        ({"outputs": None}, "outputs are None, expected 4 channel numbers"),
        ({"outputs": [0, 1]}, "expected 4 channel numbers"),
        ({"outputs": [0, 1, 2, 0]}, "outputs: field 2 has the channel 2, expected 0 to 1"),
        ({"outputs": [0, 1, -1, 0]}, "outputs: field 2 has the channel -1"),
        ({"inputs": [0, 1, 0, 1]}, "inputs are given, expected None for row kernels"),
        ({"kernels": np.ones((4, 3, 3))}, "inputs are None, expected 4 channel numbers"),
        ({"kernels": np.ones((4, 2, 2, 3, 3))}, "outputs are given, expected None for dense kernels"),
        ({"offsets": np.ones((4, 2))}, r"offsets have shape \(4, 2\), expected \(4\)"),
        ({"inner": [[0, 1]]}, r"inner have shape \(1, 2\), expected \(any\)"),
        ({"outer": np.ones((3, 2))}, r"outer have shape \(3, 2\), expected \(4, any\)"),
        ({"kernels": np.full((4, 2, 3, 3), np.nan)}, "kernels: row 0 holds nan"),
    ],
)
def test_errors(new, message):
    ConvolutionProgram(**changed())
    with pytest.raises(ValueError, match=message):
        ConvolutionProgram(**changed(**new))


@pytest.mark.parametrize(
    "new", [{"outputs": [0, 1, 0, 0]}, {"shape": (2, 9, 1)}, {"inner": [0, 2]}, {"offsets": [1, 1, 1, 2]}]
)
def test_a_digest_sees_the_structure(new):
    assert ConvolutionProgram(**changed()).digest() != ConvolutionProgram(**changed(**new)).digest()
