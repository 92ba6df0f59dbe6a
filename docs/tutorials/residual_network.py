"""A residual network as a flow, and back."""

# %%
# # A residual network as a flow, and back
#
# A torch network whose blocks map x to x + f(x), written without this package:
import matplotlib.pyplot as plt
import torch
from torch import nn

import cde_nets as cn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(2, 16), nn.Linear(16, 2)

    def forward(self, x):
        return x + 0.3 * self.outer(torch.tanh(self.inner(x)))


torch.manual_seed(0)
network = nn.Sequential(*[Block() for _ in range(6)])
x = torch.randn(5, 2)

# %%
# `from_residual` takes its blocks as steps of Euler's method; they are shared, not copied.
flow = cn.from_residual(network)
print("the same values:", torch.allclose(flow(x), network(x), atol=1e-6))

# %%
# The same blocks under another method are an ODE, of which the network is a coarse approximation:
ode = cn.from_residual(network, cn.RungeKutta("rk4", steps=8))
finer = cn.from_residual(network, cn.RungeKutta("rk4", steps=16))
with torch.no_grad():
    print("rk4 has settled:", torch.allclose(ode(x), finer(x), atol=1e-5))
    print("the network is there:", torch.allclose(network(x), finer(x), atol=1e-5))

# %%
# Back again: a flow that is solved by Euler's method becomes a torch network, here one of frozen polynomial fields.
fields = cn.PolynomialFields.random(dim=2, count=5, degree=2, seed=0)
control = cn.PiecewiseConstantControl.random(steps=12, count=5, scale=0.3, seed=0)
polynomial = cn.ControlledODE(fields, control, method="euler")
exported = cn.to_residual(polynomial)
print(len(exported), "blocks,", sum(p.numel() for p in exported.parameters()), "trained numbers")
print("the same values:", torch.allclose(exported(x), polynomial(x), atol=1e-6))

# %%
# The network's states block by block, and where the ODE ends:
with torch.no_grad():
    states = [x]
    for block in network:
        states.append(block(states[-1]))
    jumps = torch.stack(states)
figure, axes = plt.subplots(figsize=(5, 3.8))
for row in range(len(x)):
    axes.plot(*jumps[:, row].T, "o-", color=f"C{row}", linewidth=0.8, markersize=3)
axes.plot(*ode(x).detach().T, "kx", label="end of the ODE")
axes.set_xlabel("$x_1$")
axes.set_ylabel("$x_2$")
axes.legend(frameon=False)
figure.savefig("residual_network.png", dpi=110, bbox_inches="tight")

# %%
# ![Five points through six blocks, and where the ODE ends](residual_network.png)
#
# How near they are, measured: [the lectures' results](../lectures.md).
