"""Ridge fields whose affine map is a convolution of an image state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from theory.differential import Blocks, Differential
from theory.exact import ExactArray, exact_array
from theory.machine import holdable
from theory.modular import IntArray
from theory.program import Program, check_degree, float_name, rationals, shaped
from theory.rings import Ring, horner, horner_with_derivative

if TYPE_CHECKING:
    import sympy

_KINDS = {3: "stencil", 4: "row", 5: "dense"}


class ConvolutionProgram(Program):
    """V_i(x) = sigma_i(kernel_i * inner(x) + b_i) on the output channels of field i, zero on all others.

    The state is an image of C channels in height, width, channel order, the channel fastest: the entry of channel c at
    (row, column) has the flat index (row * width + column) * C + c. First the scalar polynomial `inner` acts on every
    entry; then * is a correlation (torch's conv2d) with an odd square kernel, stride 1 and k // 2 zeros around
    inner(x), so that the padding is 0 and not inner(0); then b_i is added and sigma_i(r) = sum_j outer[i, j] r**j acts.

    Three kinds of kernels, told apart by their number of axes:
        dense: (d, C, C, k, k) [output, input, height, width]; every channel is an output.
        row: (d, C, k, k); field i acts on the one channel outputs[i] and reads all channels.
        stencil: (d, k, k); field i acts on the channel outputs[i] and reads the channel inputs[i].

    Attributes:
        shape: (C, height, width).
        kind: "dense", "row" or "stencil".
        kernels: exact, of the shape above.
        outputs: int64 (d,) for row and stencil kernels, else None.
        inputs: int64 (d,) for stencils, else None.
        offsets: b, exact: (d, C) for dense kernels, (d,) for row and stencil kernels.
        inner: exact (l + 1,), coefficients from degree 0 up.
        outer: exact (d, k + 1), coefficients from degree 0 up.
    """

    def __init__(
        self,
        shape: Sequence[int],
        kernels: npt.ArrayLike | ExactArray,
        outputs: npt.ArrayLike | None,
        inputs: npt.ArrayLike | None,
        offsets: npt.ArrayLike | ExactArray,
        inner: npt.ArrayLike | ExactArray,
        outer: npt.ArrayLike | ExactArray,
        dtype: str | None = None,
    ) -> None:
        """Read the structure and the coefficients.

        Args:
            shape: (channels, height, width) of the state.
            kernels: (d, C, C, k, k), (d, C, k, k) or (d, k, k) floats, integers or Fractions; k odd.
            outputs: (d,) channels for row and stencil kernels, None for dense ones.
            inputs: (d,) channels for stencils, else None.
            offsets: (d, C) for dense kernels, else (d,).
            inner: (l + 1,) coefficients of the polynomial in front; (0, 1) for none.
            outer: (d, k + 1) coefficients of the polynomials behind.
            dtype: the name of the floating dtype the coefficients came from; floating arrays that agree name their own.

        Raises:
            ValueError: a shape is wrong, a kernel is not odd and square, a channel is outside [0, C), channels are
                missing or not wanted for this kind, a coefficient is not finite, or states take more memory than
                there is.
        """
        self.shape = tuple(int(length) for length in shape)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape is {tuple(shape)}, expected positive (channels, height, width)")
        channels, height, width = self.shape
        self.dim = channels * height * width

        self.kernels = exact_array(kernels, "kernels")
        axes = len(self.kernels.shape)
        if axes not in _KINDS:
            raise ValueError(
                f"kernels have shape {self.kernels.shape}, expected (fields, outputs, inputs, size, size), "
                "(fields, inputs, size, size) or (fields, size, size)"
            )
        layout = (None, *(channels,) * (axes - 3), None, None)
        shaped(self.kernels, "kernels", layout, f"(fields, .., size, size) on {channels} channels")
        self.kind = _KINDS[axes]
        self.count, size = self.kernels.shape[0], self.kernels.shape[-1]
        if size % 2 == 0 or self.kernels.shape[-2] != size:
            raise ValueError(f"kernels are {self.kernels.shape[-2]} by {size}, expected odd and square, such as 3 by 3")
        # The index of patches, and what it is made of.
        holdable(f"a state of shape {self.shape}", 32 * self.dim * size**2, "a smaller one")

        self.outputs = self._channels(outputs, "outputs", wanted=self.kind != "dense")
        self.inputs = self._channels(inputs, "inputs", wanted=self.kind == "stencil")
        if self.kind == "dense":
            self.offsets = shaped(offsets, "offsets", (self.count, channels), "(fields, channels) for dense kernels")
        else:
            self.offsets = shaped(offsets, "offsets", (self.count,), f"(fields,) for {self.kind} kernels")
        self.inner = shaped(inner, "inner", (None,), "coefficients of one polynomial from degree 0 up")
        self.outer = shaped(outer, "outer", (self.count, None), "(fields, degree + 1)")
        for polynomials, name in ((self.inner.shape[0], "inner"), (self.outer.shape[1], "outer")):
            check_degree(polynomials - 1, name)
        self.degree = (self.inner.shape[0] - 1) * (self.outer.shape[1] - 1)
        self.dtype = float_name(dtype, kernels, offsets, inner, outer)

        # A stencil is a row of kernels that are zero for all inputs but one: one matrix product serves all kinds.
        rows = self.kernels
        if self.inputs is not None:
            rows = rows.placed((self.count, channels, size, size), (np.arange(self.count), self.inputs))
        self._rows = rows
        self._patches = _patch_index(self.shape, size)
        self._places = self._output_index()

    def _channels(self, given: npt.ArrayLike | None, name: str, wanted: bool) -> IntArray | None:
        if not wanted:
            if given is not None:
                raise ValueError(f"{name} are given, expected None for {self.kind} kernels")
            return None
        channels = np.asarray(given)
        if given is None or channels.shape != (self.count,) or channels.dtype.kind not in "iu":
            raise ValueError(f"{name} are {given!r}, expected {self.count} channel numbers, one for each field")
        outside = np.flatnonzero((channels < 0) | (channels >= self.shape[0]))
        if outside.size:
            i = int(outside[0])
            raise ValueError(f"{name}: field {i} has the channel {channels[i]}, expected 0 to {self.shape[0] - 1}")
        channels = channels.astype(np.int64)
        channels.setflags(write=False)
        return channels

    def _output_index(self) -> IntArray:
        """(d, m): where entry j of field i stands among the outputs (position, kernel row), flat; -1 for zero."""
        channels = self.shape[0]
        position, channel = np.divmod(np.arange(self.dim), channels)
        field = np.arange(self.count)[:, None]
        if self.outputs is None:
            return (position * self.count + field) * channels + channel
        return np.where(channel == self.outputs[:, None], position * self.count + field, -1)

    def _convolve(self, y: Ring) -> Ring:
        """(N, m) to (N, height * width, kernel rows): the convolution of every field without its offset."""
        matrix = y.constant(self._rows).reshape(-1, self._patches.shape[1])
        return y.gather(self._patches).linear(matrix)

    def _placed(self, z: Ring) -> Ring:
        """(N, height * width, kernel rows) to (N, d, m)."""
        return z.reshape(z.shape[0], -1).gather(self._places)

    def _inner(self, x: Ring) -> list[Ring]:
        c = x.constant(self.inner)
        return [c[j] for j in range(self.inner.shape[0])]

    def _affine(self, y: Ring) -> Ring:
        return self._convolve(y) + y.constant(self.offsets).reshape(-1)

    def _outer(self, x: Ring) -> list[Ring]:
        """The coefficients of sigma for each kernel row: fields, or fields and their channels."""
        each = self.shape[0] if self.kind == "dense" else 1
        s = x.constant(self.outer)[np.repeat(np.arange(self.count), each)]
        return [s[:, j] for j in range(self.outer.shape[1])]

    def values(self, x: Ring) -> Ring:
        """The fields over any ring."""
        z = self._affine(horner(x, self._inner(x)))
        return self._placed(horner(z, self._outer(x)))

    def derivative(self, x: Ring, v: Ring) -> Ring:
        """sigma_i'(z_i) * (kernel_i * (inner'(x) v)) over any ring."""
        y, slope = horner_with_derivative(x, self._inner(x))
        _, outer_slope = horner_with_derivative(self._affine(y), self._outer(x))
        return self._placed(outer_slope * self._convolve(slope * v))

    def linearized(self, x: Ring, u: Ring) -> tuple[Ring, Differential[Ring]]:
        """The fields, and the Jacobian of a combination, channel by channel: never field by field."""
        channels = self.shape[0]
        positions, size = self._patches.shape
        y, slope = horner_with_derivative(x, self._inner(x))
        z, outer_slope = horner_with_derivative(self._affine(y), self._outer(x))
        matrix = x.constant(self._rows).reshape(-1, size)
        each = channels if self.kind == "dense" else 1
        field = np.repeat(np.arange(self.count), each)
        output = np.tile(np.arange(channels), self.count) if self.outputs is None else self.outputs
        parts = []
        for channel in range(channels):
            here = np.flatnonzero(output == channel)
            if len(here):
                weighted = outer_slope[:, :, here] * u[field[here]]
                parts.append(weighted.linear(matrix[here].transpose(1, 0))[:, :, None])
            else:
                parts.append(x.gather(np.full((positions, 1, size), -1)))
        entries = parts[0].join(parts[1:], 2) * slope.gather(self._patches)[:, :, None]
        block = Blocks(entries, self._patches)
        # Where kernels are as large as the image, plain matrices are no larger.
        block = Blocks.whole(block.dense()) if size >= self.dim else block
        return self._placed(z), Differential((block,))

    def to_sympy(self, symbols: Sequence[sympy.Symbol] | None = None) -> list[list[sympy.Expr]]:
        """The fields as polynomials in the convolutions, not expanded."""
        import sympy

        x = self._symbols(symbols)
        inner, outer, offsets = rationals(self.inner), rationals(self.outer), rationals(self.offsets).reshape(-1)
        y = [sympy.Add(*(c * t**k for k, c in enumerate(inner))) for t in x]
        y.append(sympy.Integer(0))  # the padding, at the index -1
        kernels = rationals(self._rows).reshape(-1, self._patches.shape[1])
        each = len(kernels) // self.count
        outputs: list[sympy.Expr] = []
        for patch in self._patches:
            for row, kernel in enumerate(kernels):
                z = sympy.Add(*(c * y[j] for c, j in zip(kernel, patch, strict=True)), offsets[row])
                outputs.append(sympy.Add(*(c * z**k for k, c in enumerate(outer[row // each]))))
        outputs.append(sympy.Integer(0))  # the other channels, at the index -1
        return [[outputs[j] for j in field] for field in self._places]

    def _content(self) -> list[bytes]:
        numbers = (self.kernels, self.offsets, self.inner, self.outer)
        channels = [b"none" if c is None else c.astype("<i8").tobytes() for c in (self.outputs, self.inputs)]
        return [str(self.shape).encode(), *channels, *(part.canonical_bytes() for part in numbers)]

    def _structure(self) -> str:
        channels, height, width = self.shape
        size = self.kernels.shape[-1]
        return f"{self.kind} {size} by {size} kernels on {channels} channels of {height} by {width}"


def _patch_index(shape: tuple[int, ...], size: int) -> IntArray:
    """(height * width, C * size * size): flat indices of the entries under the kernel at each position, -1 outside."""
    channels, height, width = shape
    shift = np.arange(size) - size // 2
    row = np.arange(height)[:, None, None, None, None] + shift[:, None]
    column = np.arange(width)[:, None, None, None] + shift
    channel = np.arange(channels)[:, None, None]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = np.where(inside, (row * width + column) * channels + channel, -1)
    return index.reshape(height * width, channels * size * size)
