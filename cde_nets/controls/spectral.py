"""u(t) a combination of a few smooth functions on [0, 1]: how many numbers train is not tied to a solver's steps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.controls import arguments
from cde_nets.controls.base import Control


def _cosine(times: Float[Tensor, "*times"], terms: int) -> Float[Tensor, "*times terms"]:
    k = torch.arange(terms, dtype=times.dtype, device=times.device)
    # Of two Python numbers torch.where makes single precision.
    return torch.cos(math.pi * k * times[..., None]) * torch.where(k > 0, math.sqrt(2), torch.ones_like(k))


def _legendre(times: Float[Tensor, "*times"], terms: int) -> Float[Tensor, "*times terms"]:
    # Bonnet's recurrence: (k + 1) P_{k+1} = (2k + 1) x P_k - k P_{k-1}.
    x = 2 * times - 1
    found = [torch.ones_like(x), x]
    for k in range(1, terms - 1):
        found.append(((2 * k + 1) * x * found[k] - k * found[k - 1]) / (k + 1))
    return torch.stack([math.sqrt(2 * k + 1) * p for k, p in enumerate(found[:terms])], -1)


_BASES = {"cosine": _cosine, "legendre": _legendre}


class SpectralControl(Control):
    """u(t) = sum_k coefficients[k] phi_k(t), k = 0..terms - 1, with phi orthonormal on [0, 1].

    Orthonormal: int_0^1 phi_j phi_k dt is 1 for j = k and 0 otherwise, so that int |u|^2 dt is the sum of the squared
    coefficients. In both bases phi_0 = 1.

    - "cosine": phi_k(t) = sqrt(2) cos(pi k t) for k > 0. Its slope is zero at both ends.
    - "legendre": phi_k(t) = sqrt(2k + 1) P_k(2t - 1), the shifted Legendre polynomials, by their three-term
      recurrence (NIST Handbook of Mathematical Functions, section 18.9). u is a polynomial of degree terms - 1, which
      grows fast outside [0, 1].

    u is smooth: there are no breakpoints, and any mesh will do.

    Args:
        terms: how many functions.
        count: d.
        basis: "cosine" or "legendre".
        coefficients: initial coefficients, shape (terms, count); zeros where None, for which the flow is the identity.

    Raises:
        ValueError: terms or count below 1, an unknown basis, coefficients of another shape, not floating or not
            finite.
    """

    def __init__(
        self,
        terms: int,
        count: int,
        *,
        basis: str = "cosine",
        coefficients: Float[Tensor, "terms count"] | None = None,
    ) -> None:
        super().__init__()
        arguments.counts(terms=terms, count=count)
        self.terms, self.count, self.basis = terms, count, arguments.known("basis", basis, _BASES)
        self.coefficients = arguments.parameter(coefficients, "coefficients", (terms, count))

    @classmethod
    def random(
        cls,
        terms: int,
        count: int,
        *,
        scale: float,
        seed: int,
        basis: str = "cosine",
        dtype: torch.dtype | None = None,
    ) -> SpectralControl:
        """Initial coefficients iid N(0, scale^2).

        Raises:
            ValueError: a scale below 0, or as the class.
        """
        arguments.counts(terms=terms, count=count)
        start = arguments.normal((terms, count), scale=scale, seed=seed, dtype=dtype)
        return cls(terms, count, basis=basis, coefficients=start)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """None: u is smooth."""
        return ()

    def at(
        self, times: Float[Tensor, "*times"], inside: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "*times {self.count}"]:
        """The combination at the times; see `Control.at`. There is one piece, so that `inside` changes nothing."""
        times, _ = self._moments(times, inside)
        return _BASES[self.basis](times, self.terms).to(self.coefficients.dtype) @ self.coefficients

    def extra_repr(self) -> str:
        """Shown by print(control)."""
        return f"terms={self.terms}, count={self.count}, basis={self.basis!r}"
