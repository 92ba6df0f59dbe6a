"""Random numbers for frozen coefficients: the same on every device, machine and thread count."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cde_nets.door import numbers

# The double factorial of 2 * 151 - 1 is beyond the doubles; and there are as many terms as the memory holds.
_HIGHEST = 140


def generator(seed: int) -> np.random.Generator:
    """A PCG64 stream of float64 draws on the CPU.

    NumPy's stream and not torch's: torch picks a vectorised normal sampler by processor, so that its last bits may
    differ between machines, and a frozen family is known by the digest of its bits.

    Raises:
        ValueError: the seed is not a non-negative integer.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"A seed is a non-negative integer; got {seed!r}.")
    return np.random.Generator(np.random.PCG64(int(seed)))


def as_buffer(values: NDArray[np.float64] | NDArray[np.complex128], dtype: torch.dtype | None) -> Tensor:
    """Round float64 or complex128 draws once to the dtype asked for (torch's default dtype where None).

    On torch's default device, as torch's own factories and modules.
    """
    return torch.from_numpy(np.array(values)).to(torch.get_default_device(), dtype or torch.get_default_dtype())


def coefficients(value: Any, name: str, shape: tuple[int | None, ...], *, or_complex: bool = False) -> Tensor:
    """A user's coefficients as a detached floating tensor of the given shape (None: any length).

    Raises:
        ValueError: another shape, a dtype that is not floating (or complex64 or complex128, where `or_complex`), or a
            number that is not finite.
    """
    try:
        # as_tensor takes tensors to torch's default device.
        given = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers in a tensor; got {value!r} ({error}).") from None
    numbers(name, given)
    tensor = given.detach().clone().resolve_conj().resolve_neg()
    fits = tensor.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({wanted}); got {tuple(tensor.shape)}.")
    if tensor.is_complex() and not or_complex:
        raise ValueError(f"{name} must be real; got {tensor.dtype}. Only LinearFields takes complex coefficients.")
    if not (tensor.is_floating_point() or tensor.dtype in (torch.complex64, torch.complex128)):
        raise ValueError(f"{name} must be floating point; got {tensor.dtype}. Use .to(torch.float64), say.")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} holds NaN or infinity; every number must be finite.")
    return tensor


def exact_values(buffer: Tensor) -> tuple[NDArray[Any], str]:
    """A buffer's numbers for an exact program, and its dtype's name.

    float64 holds every narrower float exactly, bfloat16 too, which NumPy does not have.

    Raises:
        ValueError: the numbers are complex.
    """
    if buffer.is_complex():
        raise ValueError(
            f"The coefficients are {buffer.dtype}; exact programs and certificates are over the rationals. Write "
            "A = B + iC on C^m as the real matrix [[B, -C], [C, B]] on R^2m."
        )
    plain = buffer.detach().cpu()
    return (plain.double() if plain.is_floating_point() else plain).numpy(), str(buffer.dtype).removeprefix("torch.")


def double_factorial_moments(degree: int) -> NDArray[np.float64]:
    """E[z^(2j)] = (2j - 1)!! of a standard normal z, for j = 0..degree, shape (degree + 1,).

    Raises:
        ValueError: a degree above 140, beyond which moments are no doubles.
    """
    if degree > _HIGHEST:
        raise ValueError(f"degree must be at most {_HIGHEST}, as coefficients are drawn by moments; got {degree}.")
    odd = np.arange(1, 2 * degree, 2, dtype=np.float64)
    return np.concatenate([[1.0], np.cumprod(odd)])
