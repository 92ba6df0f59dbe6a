"""Controls to start from: loops, whose flows come back to where they began."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.steer.endpoint import Endpoint

# Amplitudes are doubled while some loop of one does not blow up.
_FIRST, _MOST = 0.25, 10


@dataclass(frozen=True)
class Start:
    """A loop.

    Attributes:
        values: of the control, shape (M, d).
        need: |J^+ y|, how long a change of the control moves the ends along the targets by one, to first order.
        smallest: the smallest singular value of the Jacobian.
        largest: its largest.
    """

    values: Float[Tensor, "steps count"]
    need: float
    smallest: float
    largest: float


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
    Automatic Control 40, 1995). Amplitudes double until all loops blow up, as which is right depends on the fields.

    Args:
        endpoint: the map.
        direction: where the ends should move.
        steps: M; the middle interval of an odd number is zero.
        tries: loops of each amplitude.
        generator: of w, on the CPU.
        deadline: by `time.monotonic`.
    """
    count, x = endpoint.fields.count, endpoint.x
    found: list[Start] = []
    blown_up = 0
    for level in range(_MOST):
        amplitude, some = _FIRST * 2.0**level, False
        for _ in range(tries):
            if time.monotonic() > deadline and found:
                break
            w = amplitude * torch.randn(steps // 2, count, dtype=torch.float64, generator=generator)
            middle = torch.zeros(steps % 2, count, dtype=torch.float64)
            values = torch.cat([w, middle, -w.flip(0)]).to(x)
            start = _start(endpoint, values, direction)
            blown_up += start is None
            if start is not None:
                some = True
                found.append(start)
        if found and not some:
            break
    return sorted(found, key=lambda start: start.need), blown_up


def _start(endpoint: Endpoint, values: Tensor, direction: Tensor) -> Start | None:
    linearized = endpoint.linearized(values)
    # A loop that does not come back has been followed too coarsely to say anything.
    if linearized is None or float((linearized[0] - endpoint.x).abs().amax()) > 1 + float(endpoint.x.abs().amax()):
        return None
    _, jacobian = linearized
    gram = jacobian @ jacobian.mT
    spectrum, vectors = torch.linalg.eigh(gram)
    floor = torch.finfo(gram.dtype).eps * float(spectrum[-1]) * len(gram)
    along = vectors.mT @ direction.flatten()
    need = float((along.square() / spectrum.clamp_min(floor)).sum().sqrt()) if floor else float("inf")
    singular = spectrum.clamp_min(0).sqrt()
    return Start(values, need, float(singular[0]), float(singular[-1]))
