"""Fields on an image: frozen convolution kernels with polynomial nonlinearities."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as convolution

from cde_nets.fields import draw
from cde_nets.fields.base import Control, Fields, Pullback, _at_least
from cde_nets.fields.scalar import horner, horner_derivative, shared, shared_pullback

if TYPE_CHECKING:
    from theory import ConvolutionProgram

Kernel = Literal["dense", "row", "stencil"]
Form = Literal["ridge", "shared"]
# 2 GiB of float64 draws: past this a slip of the hand is likelier than a wish.
_MOST = 2**28


class ConvFields(Fields):
    """V_i(x) = sigma_i(K_i * phi(x) + b_i) on states of channels x height x width.

    phi is one scalar polynomial shared by all fields, sigma_i one a field, * the zero-padded correlation of `conv2d`.
    Where every sigma_i is the identity the family has shared features, and velocity forms sum_i u_i K_i first.

    States are flat, (batch, dim), in the order height, width, channel (which is what the memory format channels_last
    holds, so that no copy is made); `flatten` and `unflatten` convert from and to (batch, channels, height, width).

    Kernels, by their shape:
      - dense, (count, channels, channels, k, k): from all channels to all channels;
      - row, (count, channels, k, k): from all channels to the one in `outputs`;
      - stencil, (count, k, k): from the channel in `inputs` to the one in `outputs`.

    Args:
        shape: (channels, height, width) of the state.
        kernels: K, of one of the shapes above, k odd.
        offsets: b, shape (count, channels) for dense kernels, else (count,).
        inner: coefficients of phi from degree 0 up, shape (terms,).
        outer: coefficients of every sigma_i from degree 0 up, shape (count, terms).
        outputs: output channels, shape (count,), for row and stencil kernels.
        inputs: input channels, shape (count,), for stencil kernels.

    Raises:
        ValueError: shapes, dtypes or channels that do not fit together, even kernels, degree 0.
    """

    kernels: Tensor
    offsets: Tensor
    inner: Tensor
    outer: Tensor
    outputs: Tensor | None
    inputs: Tensor | None
    _field: Tensor
    _output: Tensor
    _input: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        kernels: Float[Tensor, "count *kernel"],
        offsets: Float[Tensor, "count *channels"],
        inner: Float[Tensor, "terms"],
        outer: Float[Tensor, "count degrees"],
        outputs: Int[Tensor, "count"] | None = None,
        inputs: Int[Tensor, "count"] | None = None,
    ) -> None:
        channels, height, width = (_at_least(f"shape[{i}]", n, 1) for i, n in enumerate(shape))
        if len(kernels.shape) not in (3, 4, 5) or kernels.shape[-1] != kernels.shape[-2] or kernels.shape[-1] % 2 == 0:
            raise ValueError(
                f"kernels must end in an odd square (k, k) and have 3 (stencil), 4 (row) or 5 (dense) axes; got "
                f"{tuple(kernels.shape)}."
            )
        count, k, axes = kernels.shape[0], kernels.shape[-1], kernels.ndim
        kernels = draw.coefficients(kernels, "kernels", (count, *(channels,) * (axes - 3), k, k))
        offsets = draw.coefficients(offsets, "offsets", (count, channels) if axes == 5 else (count,))
        inner = draw.coefficients(inner, "inner", (None,))
        outer = draw.coefficients(outer, "outer", (count, None))
        _at_least("degree of inner", len(inner) - 1, 1)
        _at_least("degree of outer", outer.shape[1] - 1, 1)
        if len({kernels.dtype, offsets.dtype, inner.dtype, outer.dtype}) > 1:
            raise ValueError(
                f"kernels, offsets, inner and outer differ in dtype: {kernels.dtype}, {offsets.dtype}, "
                f"{inner.dtype}, {outer.dtype}."
            )
        super().__init__(channels * height * width, count, (len(inner) - 1) * (outer.shape[1] - 1))
        self.shape = (channels, height, width)
        self.kernel: Kernel = {3: "stencil", 4: "row", 5: "dense"}[axes]  # type: ignore[assignment]
        for name, value in (("kernels", kernels), ("offsets", offsets), ("inner", inner), ("outer", outer)):
            self.register_buffer(name, value)
        self.register_buffer("outputs", _channels("outputs", outputs, axes < 5, count, channels))
        self.register_buffer("inputs", _channels("inputs", inputs, axes == 3, count, channels))
        self._tabulate()
        self._read_constants()
        self.register_load_state_dict_post_hook(_refresh)  # type: ignore[no-untyped-call]

    @classmethod
    def random(
        cls,
        channels: int,
        height: int,
        width: int,
        count: int,
        *,
        kernel: Kernel = "row",
        kernel_size: int = 3,
        degree: int = 2,
        form: Form = "ridge",
        orthogonal: bool = False,
        seed: int,
        dtype: torch.dtype | None = None,
    ) -> ConvFields:
        """Draw the kernels; outputs (and inputs) go round the channels in turn.

        Args:
            channels: of the state.
            height: of the state.
            width: of the state.
            count: d.
            kernel: "dense", "row" or "stencil".
            kernel_size: k, odd.
            degree: of the nonlinearity, >= 1.
            form: "ridge" for random sigma_i and random offsets, as in `RidgeFields`, with phi(r) = r. "shared" for
                sigma_i(r) = r, no offsets, and phi(r) = r + r^2/2 + ... + r^degree/degree!, the exponential's series.
            orthogonal: make kernels between the same channels orthonormal, in groups of at most as many as a kernel
                has entries.
            seed: of the draws.
            dtype: of the coefficients; torch's default dtype where None.

        Raises:
            ValueError: an unknown kernel or form, an even kernel size, degree 0.
        """
        for name, value, known in (("kernel", kernel, get_args(Kernel)), ("form", form, get_args(Form))):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}.")
        for name, least in (("channels", channels), ("height", height), ("width", width), ("count", count)):
            _at_least(name, least, 1)
        _at_least("degree", degree, 1)
        _at_least("kernel_size", kernel_size, 1)
        drawn = count * channels ** {"dense": 2, "row": 1, "stencil": 0}[kernel] * kernel_size**2
        if max(drawn, channels * height * width) > _MOST:
            raise ValueError(
                f"This family would have {drawn:,} coefficients on states of {channels * height * width:,} numbers; "
                f"expected at most {_MOST:,} of each. Take fewer channels, fields or pixels."
            )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the state keeps its size; got {kernel_size}.")
        rng = draw.generator(seed)
        fan_in = kernel_size**2 * (1 if kernel == "stencil" else channels)
        lead = {"dense": (channels, channels), "row": (channels,), "stencil": ()}[kernel]
        turn = np.arange(count)
        outputs = turn % channels
        values = rng.standard_normal((count, *lead, kernel_size, kernel_size))
        if orthogonal:
            pairs = {"dense": 0 * turn, "row": outputs, "stencil": turn % channels**2}[kernel]
            flat = _orthonormal(values.reshape(count, -1), pairs)
            # Rows of unit length, scaled to the mean square length that independent draws have.
            values = flat.reshape(values.shape) * np.sqrt(flat.shape[1])
        offsets = np.zeros((count, channels) if kernel == "dense" else (count,))
        powers = np.arange(degree + 1)
        if form == "ridge":
            inner = np.array([0.0, 1.0])
            offsets = rng.standard_normal(offsets.shape) / np.sqrt(2)
            values = values / np.sqrt(2 * fan_in)
            scale = np.sqrt(draw.double_factorial_moments(degree) * (degree + 1))
            outer = rng.standard_normal((count, degree + 1)) / scale
        else:
            factorial = np.concatenate([[1.0], np.cumprod(powers[1:], dtype=np.float64)])
            inner = np.where(powers > 0, 1 / factorial, 0.0)
            values = values / np.sqrt(fan_in)
            outer = np.tile([0.0, 1.0], (count, 1))
        return cls(
            (channels, height, width),
            draw.as_buffer(values, dtype),
            draw.as_buffer(offsets, dtype),
            draw.as_buffer(inner, dtype),
            draw.as_buffer(outer, dtype),
            outputs=None if kernel == "dense" else torch.from_numpy(outputs),
            inputs=torch.from_numpy(turn // channels % channels) if kernel == "stencil" else None,
        )

    def flatten(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim"]:
        """From (batch, channels, height, width) to the flat states the fields act on, (batch, dim)."""
        if image.ndim != 4 or tuple(image.shape[1:]) != self.shape:
            raise ValueError(
                f"Expected images of shape (batch, {', '.join(map(str, self.shape))}); got {tuple(image.shape)}."
            )
        return image.permute(0, 2, 3, 1).reshape(image.shape[0], self.dim)

    def unflatten(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch channels height width"]:
        """From flat states (batch, dim) to (batch, channels, height, width), a view."""
        channels, height, width = self.shape
        return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def collapses(self, rows: int, u: Control) -> bool:
        """Whether forming sum_i u_i K_i first is possible and costs fewer multiplications than stacking."""
        if u.ndim == 2 or not self._identity:
            return False
        channels, height, width = self.shape
        pixels, taps = height * width, self.kernels.shape[-1] ** 2
        collapsed = self.kernels.numel() + rows * pixels * taps * channels**2
        stacked = rows * pixels * (self.kernels.numel() + len(self._field))
        return collapsed <= stacked

    def _velocity(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch dim"]:
        if self.collapses(x.shape[0], u):
            kernel, offset = self._collapse(u)
            return self._flat(self._correlate(self._features(x), kernel, offset))
        active = u.expand(x.shape[0], -1)[:, self._field, None, None] * self._activations(x)
        return self._flat(self._scatter(active))

    def _pullback(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Pullback:
        y, g = self._features(x), self.unflatten(w)
        if self.collapses(x.shape[0], u):
            kernel, _ = self._collapse(u)
            below = convolution.conv2d_input(list(y.shape), kernel, g, padding=kernel.shape[-1] // 2)
            return Pullback(self._features_pullback(x, below), self._collapsed_moments(y, g))
        z, taken = self._responses(y), g[:, self._output]
        s = self.outer[self._field][:, None, None, :]
        rows = (horner(s, z) * taken).sum((2, 3))
        control = torch.zeros_like(rows[:, :1]).repeat(1, self.count).index_add(1, self._field, rows)
        weights = u.expand(x.shape[0], -1)[:, self._field, None, None]
        below = self._responses_pullback(y, weights * taken * horner_derivative(s, z))
        return Pullback(self._features_pullback(x, below), control if u.ndim == 2 else control.sum(0))

    def _moments(self, x: Float[Tensor, "batch dim"], u: Control, w: Float[Tensor, "batch dim"]) -> Control:
        if not self.collapses(x.shape[0], u):
            return self._pullback(x, u, w).control
        return self._collapsed_moments(self._features(x), self.unflatten(w))

    def _divergence(self, x: Float[Tensor, "batch dim"], u: Control) -> Float[Tensor, "batch"]:
        # A pixel meets itself through the centre tap alone: sigma'(z) K[centre] phi'(x), over pixels and rows.
        slopes = self.unflatten(shared_pullback(self._inner, x, torch.ones_like(x)))
        if self._identity:
            sums = slopes.sum((2, 3))[:, self._output]
        else:
            s = self.outer[self._field][:, None, None, :]
            responses = self._responses(self._features(x))
            sums = (horner_derivative(s, responses) * slopes[:, self._output]).sum((2, 3))
        return (u.expand(x.shape[0], -1)[:, self._field] * self._centres() * sums).sum(1)

    def _evaluate(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch count dim"]:
        channels, height, width = self.shape
        values = x.new_zeros(x.shape[0], self.count, channels, height, width)
        # Advanced indices next to each other stay in place: (batch, rows, height, width).
        values[:, self._field, self._output] = self._activations(x)
        return values.permute(0, 1, 3, 4, 2).reshape(x.shape[0], self.count, self.dim)

    def exact(self) -> ConvolutionProgram:
        """The same fields with exact coefficients."""
        from theory import ConvolutionProgram

        def array(value: Tensor | None) -> Any:
            return None if value is None else draw.exact_values(value)[0]

        return ConvolutionProgram(
            self.shape,
            array(self.kernels),
            array(self.outputs),
            array(self.inputs),
            array(self.offsets),
            array(self.inner),
            array(self.outer),
            dtype=draw.exact_values(self.kernels)[1],
        )

    def _structure(self) -> tuple[object, ...]:
        return (self.shape, self.kernel)

    def extra_repr(self) -> str:
        """Shown by print(fields)."""
        size = self.kernels.shape[-1]
        return f"shape={self.shape}, count={self.count}, degree={self.degree}, kernel={self.kernel} {size}x{size}"

    # The three kinds of kernel are one: a list of rows, each from one or all input channels to one output channel.

    def _tabulate(self) -> None:
        """Which field, output channel and input channel each row of kernels belongs to."""
        channels, field = self.shape[0], torch.arange(self.count, device=self.kernels.device)
        outputs = self.outputs
        if outputs is None:
            field = field.repeat_interleave(channels)
            outputs = torch.arange(channels, device=self.kernels.device).repeat(self.count)
        self.register_buffer("_field", field, persistent=False)
        self.register_buffer("_output", outputs, persistent=False)
        self.register_buffer("_input", self.inputs, persistent=False)

    def _read_constants(self) -> None:
        """What the host must know of the nonlinearities: read once, so that nothing waits for a device later."""
        if self.kernels.is_meta:
            return
        self._inner: tuple[float, ...] = tuple(self.inner.tolist())
        identity = [0.0, 1.0, *[0.0] * (self.outer.shape[1] - 2)]
        self._identity = bool((self.outer.cpu() == torch.tensor(identity, dtype=self.outer.dtype, device="cpu")).all())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ConvFields:
        super()._apply(fn, recurse)
        self._read_constants()
        return self

    def _rows(self) -> Tensor:
        """Kernels as rows, shape (rows, channels, k, k), or (rows, k, k) for stencils."""
        return self.kernels.flatten(0, 1) if self.kernel == "dense" else self.kernels

    def _centres(self) -> Float[Tensor, "rows"]:
        """The centre tap from each row's output channel to itself."""
        middle = self.kernels.shape[-1] // 2
        taps = self._rows()[..., middle, middle]
        if self.kernel == "stencil":
            return torch.where(self._input == self._output, taps, 0.0)
        return taps.gather(1, self._output[:, None])[:, 0]

    def _collapse(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i u_i K_i, shape (channels, channels, k, k), and sum_i u_i b_i, shape (channels,)."""
        channels, weights, k = self.shape[0], u[self._field], self.kernels.shape[-1]
        weighted = weights.reshape(-1, *(1,) * (self._rows().ndim - 1)) * self._rows()
        # Laid out as the states are, channels last.
        blank = self.kernels.new_zeros(channels, k, k, channels)
        if self.kernel == "stencil":
            kernel = blank.movedim(-1, 1).index_put((self._output, self._input), weighted, accumulate=True)
        else:
            kernel = blank.index_add(0, self._output, weighted.movedim(1, -1)).movedim(-1, 1)
        offset = self.offsets.new_zeros(channels).index_add(0, self._output, weights * self.offsets.flatten())
        return kernel, offset

    def _collapsed_moments(self, y: Tensor, g: Tensor) -> Tensor:
        """The adjoint of `_collapse`: <g, K_i * y + b_i> for every field, summed over the rows."""
        channels, k = self.shape[0], self.kernels.shape[-1]
        moment, total = convolution.conv2d_weight(y, [channels, channels, k, k], g, padding=k // 2), g.sum((0, 2, 3))
        taken = moment[self._output, self._input] if self.kernel == "stencil" else moment[self._output]
        rows = (taken * self._rows()).flatten(1).sum(1) + total[self._output] * self.offsets.flatten()
        return torch.zeros_like(self.outer[:, 0]).index_add(0, self._field, rows)

    def _responses(self, y: Tensor) -> Float[Tensor, "batch rows height width"]:
        """K_r * y + b_r for every row r."""
        if self.kernel == "stencil":
            return functional.conv2d(
                y[:, self._input], self.kernels[:, None], self.offsets, padding="same", groups=self.count
            )
        return self._correlate(y, self._rows(), self.offsets.flatten())

    def _responses_pullback(self, y: Tensor, g: Tensor) -> Tensor:
        pad = self.kernels.shape[-1] // 2
        if self.kernel == "stencil":
            shape = [y.shape[0], self.count, *y.shape[2:]]
            taken = convolution.conv2d_input(shape, self.kernels[:, None], g, padding=pad, groups=self.count)
            return torch.zeros_like(y).index_add(1, self._input, taken)
        below: Tensor = convolution.conv2d_input(list(y.shape), self._rows(), g, padding=pad)
        return below

    def _activations(self, x: Tensor) -> Tensor:
        return horner(self.outer[self._field][:, None, None, :], self._responses(self._features(x)))

    def _scatter(self, rows: Tensor) -> Tensor:
        blank = rows.new_zeros(rows.shape[0], *self.shape)
        return blank.index_add(1, self._output, rows)

    def _features(self, x: Tensor) -> Float[Tensor, "batch channels height width"]:
        return self.unflatten(shared(self._inner, x))

    def _features_pullback(self, x: Tensor, g: Tensor) -> Float[Tensor, "batch dim"]:
        return shared_pullback(self._inner, x, self._flat(g))

    def _flat(self, image: Tensor) -> Tensor:
        return image.permute(0, 2, 3, 1).reshape(image.shape[0], self.dim)

    def _correlate(self, y: Tensor, kernel: Tensor, offset: Tensor) -> Tensor:
        return functional.conv2d(y, kernel, offset, padding="same")


def _refresh(fields: ConvFields, missing: object) -> None:
    """After load_state_dict: what was read from the buffers is read again."""
    fields._tabulate()
    fields._read_constants()


def _channels(name: str, value: Tensor | None, wanted: bool, count: int, channels: int) -> Tensor | None:
    if (value is not None) != wanted:
        raise ValueError(f"{name} must {'be given' if wanted else 'be None'} for kernels of this shape; got {value!r}.")
    if value is None:
        return None
    channel = torch.as_tensor(value, device=getattr(value, "device", None)).detach().clone()
    whole = not (channel.is_floating_point() or channel.is_complex() or channel.dtype == torch.bool)
    channel = channel.to(torch.int64)
    if not whole or tuple(channel.shape) != (count,) or bool((channel < 0).any()) or bool((channel >= channels).any()):
        raise ValueError(f"{name} must hold {count} channels between 0 and {channels - 1}; got {value!r}.")
    return channel


def _orthonormal(rows: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows of the same group made orthonormal, as many at a time as their length allows."""
    done = rows.copy()
    for number in np.unique(groups):
        places = np.flatnonzero(groups == number)
        for start in range(0, len(places), rows.shape[1]):
            group = places[start : start + rows.shape[1]]
            q, r = np.linalg.qr(rows[group].T)
            done[group] = (q * np.sign(np.diag(r))).T
    return done
