"""How many operations a row cannot do without: only matrix products are counted.

A ridge step multiplies all states with C once: 2 B d m^2. Its gradient multiplies twice more: the pre-activations again
(or it keeps them, and reads B d m numbers a step) and the cotangents with C transposed. Activations and the sums over
fields are of order B d m and are left out, so that in small dimensions the fraction of the peak is an understatement.

A polynomial step, with P = C(m + 2, 2) monomials, forms the one field sum_i u_i A_i by 2 d m P operations and
multiplies once: 2 B m P. The gradient multiplies twice more, to the monomials' cotangents and to that one field's, and
takes the inner products with the A_i: 2 d m P.
"""

from __future__ import annotations

from math import comb

from benchmarks.flows.rows import DEGREE, Row


def flops(row: Row, *, gradient: bool) -> int:
    """Operations (an addition and a multiplication are two) of a solve, or of a solve and its control gradient."""
    m, d, M, B = row.dim, row.count, row.steps, row.batch
    if row.family == "ridge":
        return (3 if gradient else 1) * 2 * B * M * d * m**2
    terms = comb(m + DEGREE, DEGREE)
    product, collapse = 2 * B * m * terms, 2 * d * m * terms
    return M * (3 * product + 2 * collapse if gradient else product + collapse)
