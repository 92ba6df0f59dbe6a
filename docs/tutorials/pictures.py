"""Pictures of ranks and of convergence."""

# %%
# # Pictures of ranks and convergence
#
# Functions of `cde_nets.plot` take what the package returns and, if wanted, Axes of matplotlib; they return the Axes.
#
# **Growth vectors.** How much the brackets of five quadratic fields of the plane span at N points, by depth:
import numpy as np
import torch

import cde_nets as cn
import theory
from cde_nets import plot

fields = cn.PolynomialFields.random(dim=2, count=5, degree=2, seed=0)
points = np.random.default_rng(0).standard_normal((20, 2))
vectors = [theory.growth_vector(fields, points[:n], max_depth=6, seed=0) for n in (5, 10, 20)]
for found in vectors:
    print(found.points, found.ranks, all(found.known))
plot.save(plot.growth(vectors), "growth.png")

# %%
# ![Rank against depth at 5, 10 and 20 points](growth.png)
#
# The broad lines are what ranks cannot exceed. Where a rank is equal to it, it is known and its marker filled; a hollow
# one is a lower bound alone. `plot.growth_bars` draws one vector, coloured by what stops it, as in
# [Certificates](../theory.md).
#
# **Singular values.** What the trained numbers of a network reach at given data, to first order: more than twice as
# many numbers as outputs, and yet the last singular values are small.
flow = cn.ControlledODE(fields, cn.PiecewiseConstantControl.random(steps=10, count=5, scale=0.3, seed=0), "rk4")
network = cn.Network(None, [cn.Stage(flow)], cn.DifferenceReadout())
reached = cn.control_rank(network, torch.from_numpy(points[:10]).float())
print(reached)
plot.save(plot.singular_values(reached), "singular_values.png")

# %%
# ![Singular values of the outputs' Jacobian, with tolerance and rank](singular_values.png)
#
# Other matrices are given by names, as `plot.singular_values({"float64": values}, tolerance=.., exact_rank=..)`: of
# brackets in floats beside their exact rank, see [Certificates](../theory.md).
#
# **Iterations.** A solution that was asked for the trace of its steps has the residual before each; methods for rest
# and linear ones alike.
W = 0.9 * torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
problem = cn.FixedPointProblem(lambda z: torch.tanh(z @ W + 1), torch.zeros(4, 32, dtype=torch.float64))
options = {"tolerance": cn.Tolerance(1e-12, 1e-10), "save_at": cn.SaveAt(steps=True)}
methods = {"Picard": cn.Picard(), "Anderson": cn.Anderson(), "Broyden": cn.Broyden(), "Newton": cn.Newton()}
solved = {name: cn.solve(problem, method, **options) for name, method in methods.items()}
print({name: int(solution.statistics.steps.max()) for name, solution in solved.items()})
plot.save(plot.convergence(solved, tolerance=1e-10), "residuals.png")

# %%
# ![The largest residual of a row by step, of four methods](residuals.png)
#
# Steps are not work: pairs of work, or seconds, and residuals take the place of solutions, as in
# [Equilibria](../equilibrium.md).
#
# **Flows.** Errors against step widths, with each method's order and measured slope; dotted, a line of each order.
x = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
start = cn.InitialValueProblem(lambda t, x: torch.stack([x[:, 1], -torch.sin(x[:, 0])], 1), x)
truth = cn.solve(start, cn.RungeKutta("tsit5", steps=512)).value
orders, steps, errors = {"euler": 1, "midpoint": 2, "rk4": 4}, (4, 8, 16, 32), {}
for name in orders:
    ends = [cn.solve(start, cn.RungeKutta(name, steps=n)).value for n in steps]
    errors[name] = [1 / n for n in steps], [float((end - truth).norm()) for end in ends]
plot.save(plot.orders(errors, orders), "orders.png")

# %%
# ![Errors of three methods against step widths](orders.png)
