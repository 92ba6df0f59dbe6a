"""Proof that controls which are exact lie near those that steering found."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cde_nets.fields import Fields
from cde_nets.options import suggesting
from cde_nets.solver.flow.tableau import TABLEAUS
from cde_nets.steer.endpoint import Endpoint
from cde_nets.steer.result import Interpolation
from cde_nets.steer.task import real_fields, reals

if TYPE_CHECKING:
    from theory import Enclosure


@suggesting
def prove_interpolation(
    fields: Fields,
    x: Float[Tensor, "points dim"],
    y: Float[Tensor, "points dim"],
    found: Interpolation,
    *,
    precision: int = 128,
    radius: float | None = None,
    time_limit: float | None = None,
) -> Enclosure:
    """Prove by interval arithmetic that exact controls lie near those found: `theory.enclose`.

    Exact for the discrete steps in real numbers, of the very coefficients, points and targets given; not for the ODE.
    Seconds for ten numbers that are asked for, minutes for some hundred.

    Args:
        fields: as they were given to `interpolate`; polynomial, or rational.
        x: as given.
        y: as given.
        found: what it returned.
        precision: of the balls, in bits.
        radius: the distance that is to be proved; None proves the best that can be.
        time_limit: seconds, after which nothing is proved.

    Raises:
        ValueError: fields, points or targets that are not those of the result; as `theory.enclose`.
        TypeError: another option. Lambda, the method and its steps are those of the result.
        ImportError: python-flint is missing.
    """
    from theory import enclose

    if not isinstance(found, Interpolation):
        raise ValueError(f"found is a {type(found).__name__}, expected what interpolate returned.")
    fields = real_fields(fields)
    x, y = (reals(name, rows, fields) for name, rows in (("x", x), ("y", y)))
    if x.shape != found.ends.shape or y.shape != x.shape or fields.count != found.control.count:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, y {tuple(y.shape)} and there are {fields.count} fields; the result is of "
            f"{len(found.ends)} points of R^{found.ends.shape[1]} and {found.control.count} fields."
        )
    start, wanted = x.cpu().numpy(), y.cpu().numpy()
    if found.readout == "identity":
        # y - x would round; the theorem's target is y itself.
        pairs = zip(wanted.ravel().tolist(), start.ravel().tolist(), strict=True)
        exact = [Fraction(there) - Fraction(here) for there, here in pairs]
        wanted = np.array(exact, dtype=object).reshape(start.shape)
    tableau = TABLEAUS[found.method.name].bare
    # A proof may take minutes: what was found elsewhere is refused before.
    with torch.no_grad():
        ends = Endpoint(fields, x, tableau, found.substeps).at(found.control.values)
    if ends is None or not torch.allclose(ends, found.ends, rtol=1e-6, atol=1e-6):
        raise ValueError(
            f"These fields carry these points elsewhere than the result says, to {ends}; expected {found.ends}: give "
            "the fields and points that interpolate was given."
        )
    return enclose(
        fields.exact(),
        start,
        wanted,
        found.control.values.detach().cpu().numpy(),
        a=tableau.a,
        b=tableau.b,
        substeps=found.substeps,
        lam=found.lam,
        precision=precision,
        radius=radius,
        time_limit=time_limit,
    )
