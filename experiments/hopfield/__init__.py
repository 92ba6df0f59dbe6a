"""Associative memory in a continuous Hopfield network: Table A1 and Figure A1 of Liao et al., made again.

    python -m experiments.hopfield
    python -m experiments.hopfield --quick
    python -m experiments.hopfield --size paper --cells "neumann:10,rbp-uniform:10" --trials 3

Liao et al., "Reviving and improving recurrent back-propagation", ICML 2018, appendix, section 3.2. A network whose
input units are clamped to a binary image is to come to rest with the same image in its output units; it is trained by
the gradient at rest, found with K steps of each method, and then asked with half of the ink gone. A trial succeeds
where its final training loss is below half of the initial one. The paper leaves open which that is, and its code does
not say: the untrained network's, which answers next to nothing and so has the mean ink for its loss, 0.22; or the mean
over the first epoch, whose first update alone takes the loss to 2. The table has both.

Why RBP fails in the paper's table: its linear iteration begins at z0 ~ U(0, 1), anew for every update, and K updates
leave (J^T)^K z0 of it. At the paper's size |z0| is 690 times the gradient of the loss, whose norm is 1/28. At the
beginning |J| is 0.015 and nothing is left after two steps; but Adam moves every weight by 1e-3 at once and coherently,
and J's spectral radius is 0.5 after one pass over the images and 0.76 after 35. What is left of a z0 that lies along
J's largest eigenvalue outweighs the gradient above a radius of 690^(-1/K): 0.52 for K = 10, 0.72 for 20, 0.80 for 30.
From z0 = 0 it is the Neumann series of K terms (Proposition 3), and does not fail.

Trials are trained side by side, each with weights, order and corruption of its own, drawn from its number; the sum of
their losses has each trial's gradient, and Adam moves every element by itself.

The smaller sizes keep what the table depends on, as numbers without a dimension: |z0| / |g| (by the noise's range) and
|J| at the beginning (by W's spread); the slope b is larger, so that fewer epochs teach, and the rate is such that the
radius of J comes to stand where the published table has it, above the limit of 20 steps and below that of 30. How far
it rises is decided by the first few updates and differs from trial to trial; the less, the smaller b is (sigmoid(b h)
is then nearly linear, and J nearly the same for all images) and the more units there are. The reduced size has b twice
the paper's and a quarter of its free units, the quick one a far larger b. They show the same thing; they are not the
same experiment.

Differences from the published code, on purpose: CG is of the true J (there the forward product's is wrong) and, as
GMRES, ends where its residual is rounding; the iteration to rest stops where it has arrived to rounding, at most after
the same 50 steps; losses before and after training are means over all ten images.

Subject: Equilibria
Source: Liao et al. 2018, appendix, section 3.2, Table A1, Figure A1
"""

from experiments.hopfield.command import app

__all__ = ["app"]
