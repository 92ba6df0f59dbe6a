"""Two moons: train a flow and see it."""

# %%
# # Two moons: train a flow and see it
#
# Two half circles that no line parts. They are lifted to a sphere of R³, and a flow moves them there until a plane
# does. The fields are random and frozen; the control and a linear readout are trained.
import torch
from sklearn.datasets import make_moons

import cde_nets as cn
from cde_nets.plot import trajectories

X, y = make_moons(300, noise=0.1, random_state=0)
x, y = torch.tensor(X - X.mean(0), dtype=torch.float32), torch.tensor(y)
states = torch.cat([x, torch.ones(300, 1)], dim=1)
states = states / states.norm(dim=1, keepdim=True)

fields = cn.PolynomialFields.random(dim=3, count=5, degree=2, seed=1)
control = cn.PiecewiseConstantControl.random(steps=20, count=5, scale=0.1, seed=0)
flow = cn.ControlledODE(fields, control, method="euler", manifold="sphere")
torch.manual_seed(0)
network = cn.Network(None, [cn.Stage(flow)], cn.LinearReadout(3, 2))
print(network.describe())

# %%
# `manifold="sphere"` puts every step's end back on the sphere. In the plane such fields can carry a point out of every
# bounded set, and training finds out. A flow trains as any torch module does; a penalty keeps its paths short.
optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
for _ in range(200):
    loss = torch.nn.functional.cross_entropy(network(states), y) + 0.02 * control.values.square().mean()
    optimizer.zero_grad(), loss.backward(), optimizer.step()
print(f"more than 97 % right: {(network(states).argmax(1) == y).float().mean().item() > 0.97}")

# %%
# The readout alone does not do it:
alone = torch.nn.Linear(3, 2)
optimizer = torch.optim.Adam(alone.parameters(), lr=0.1)
for _ in range(200):
    loss = torch.nn.functional.cross_entropy(alone(states), y)
    optimizer.zero_grad(), loss.backward(), optimizer.step()
print(f"more than 97 % right: {(alone(states).argmax(1) == y).float().mean().item() > 0.97}")

# %%
# The paths of forty of the points, in the first two coordinates: hollow where they start, filled where they end.
axes = trajectories(flow, states[:40], dims=(0, 1), labels=y[:40].tolist())
axes.figure.savefig("moons.png", dpi=110, bbox_inches="tight")

# %%
# ![Paths of two half circles of points under the trained flow](moons.png)
#
# [Steering](../steering.md) says what a flow cannot do: it keeps what is inside a closed curve of the plane inside.
