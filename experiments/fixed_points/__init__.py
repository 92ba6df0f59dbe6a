"""Fixed points z = f(z): when iterating f finds them, how fast, and what else does.

    python -m experiments.fixed_points

Everything here is solved by `cn.solve(cn.FixedPointProblem(..), ..)`. The pictures (cobwebs.png):

- The golden ratio, x = 1 + 1/x from 2. (Lecture notes that print x_5 = 1.612538462 mean
  1 + 1/1.625 = 1.615384615.. .)
- Its rearrangement x = 1/(x - 1) from 1.6, which meets the pole 1 after four steps in exact arithmetic. See `scalar`.
- Square roots by currying, T(u) = (u + x/u)/2: Newton's method as a fixed point.
- z = tanh(w z + x) with w = -2: Picard goes back and forth for ever.
- Brouwer: a continuous map of the disc to itself has a fixed point, even where iterates run away from it; a rotation
  has one which its iterates circle for ever. See `brouwer`.
- Banach: the steps that a contraction takes, predicted from its first step. See `banach`.
- Gradient descent as a fixed point of w - eta grad L(w), below its bound. See `descent`.

The race (iterations.png): Picard, Anderson, Broyden, Newton and Newton-Krylov on z = tanh(W z + x), by work and by
time. See `race`.

Subject: Equilibria
Source: lecture Recurrent back propagation, fixed point theorems; lecture Forward propagation with implicit layers
"""

from experiments.fixed_points.command import app

__all__ = ["app"]
