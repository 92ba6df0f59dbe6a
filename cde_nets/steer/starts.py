"""Controls to start from: loops, whose flows come back to where they began."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.steer.endpoint import Endpoint

# Amplitudes are doubled while some loop of one does not blow up.
_FIRST, _LEAST, _MOST = 1.0, 1e-9, 8
# Random values of half a loop. The fewer, the longer each is held: points then go far, and come back, on little energy,
# and the Jacobian's smallest singular values are tens of times larger than where each interval has its own.
_PIECES = (12, 6, 3)


@dataclass(frozen=True)
class Start:
    """A loop.

    Attributes:
        values: of the control, shape (M, d).
        need: |J^+ y|, how long a change of the control moves the ends along the targets by one, to first order.
        smallest: the smallest singular value of the Jacobian.
    """

    values: Float[Tensor, "steps count"]
    need: float
    smallest: float


def quiet(endpoint: Endpoint, steps: int, *, generator: torch.Generator) -> Float[Tensor, "steps count"]:
    """A loop that goes not far, the amplitude made smaller until it does not blow up.

    Args:
        endpoint: the map.
        steps: M.
        generator: as `loops`.
    """
    values = _loop(endpoint, steps, steps // 2, generator)
    return _tame(endpoint, values) / 4 * values


def loops(
    endpoint: Endpoint,
    direction: Float[Tensor, "points dim"],
    steps: int,
    *,
    tries: int,
    generator: torch.Generator,
    deadline: float,
) -> tuple[list[Start], int]:
    """Random loops u = (w, -w reversed), those first from which the targets are nearest; and how many blew up.

    Along such a control the flow goes somewhere and back, X_1 = x up to the method's error, while the Jacobian is
    generically not singular (Sontag, "Control of systems without drift via generic loops", IEEE Transactions on
    Automatic Control 40, 1995). Amplitudes double until most loops blow up, as which is right depends on the fields.

    Args:
        endpoint: the map.
        direction: where the ends should move.
        steps: M; the middle interval of an odd number is zero.
        tries: loops of each amplitude, and of each time for which values are held.
        generator: of w, on the CPU.
        deadline: by `time.monotonic`, after which no more are tried, whether or not some were found.
    """
    found: list[Start] = []
    blown_up = 0
    first = _tame(endpoint, _loop(endpoint, steps, min(_PIECES), generator))
    for level in range(_MOST):
        lost = 0
        for pieces in _PIECES * tries:
            if time.monotonic() > deadline:
                break
            start = _start(endpoint, first * 2.0**level * _loop(endpoint, steps, pieces, generator), direction)
            lost += start is None
            if start is not None:
                found.append(start)
        blown_up += lost
        if time.monotonic() > deadline or (found and lost > len(_PIECES) * tries / 2):
            break
    return sorted(found, key=lambda start: start.need), blown_up


def _tame(endpoint: Endpoint, values: Tensor) -> float:
    """An amplitude at which these values do not blow up, as a rule the first one."""
    amplitude = _FIRST
    while endpoint.at(amplitude * values) is None and amplitude > _LEAST:
        amplitude /= 4
    return amplitude


def _loop(endpoint: Endpoint, steps: int, pieces: int, generator: torch.Generator) -> Tensor:
    """Normal values, held over equal parts of half the time and then taken back; shape (steps, count)."""
    half, count = steps // 2, endpoint.fields.count
    pieces = max(1, min(pieces, half))
    drawn = torch.randn(pieces, count, dtype=torch.float64, device=generator.device, generator=generator)
    w = drawn[torch.arange(half, device=drawn.device) * pieces // max(1, half)]
    return torch.cat([w, w.new_zeros(steps % 2, count), -w.flip(0)]).to(endpoint.x)


def _start(endpoint: Endpoint, values: Tensor, direction: Tensor) -> Start | None:
    linearized = endpoint.linearized(values)
    # A loop that does not come back has been followed too coarsely to say anything.
    if linearized is None or float((linearized[0] - endpoint.x).abs().amax()) > 1 + float(endpoint.x.abs().amax()):
        return None
    _, jacobian = linearized
    gram = jacobian @ jacobian.mT
    if not bool(torch.isfinite(gram).all()):
        return None
    spectrum, vectors = torch.linalg.eigh(gram)
    floor = torch.finfo(gram.dtype).eps * float(spectrum[-1]) * len(gram)
    along = vectors.mT @ direction.flatten()
    need = float((along.square() / spectrum.clamp_min(floor)).sum().sqrt()) if floor else float("inf")
    return Start(values, need, float(spectrum[0].clamp_min(0).sqrt()))
