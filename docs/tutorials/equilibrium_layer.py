"""An equilibrium layer, and two ways back."""

# %%
# # An equilibrium layer, and two ways back
#
# z* = tanh(W z* + U x + b): the network is shown its input until it comes to rest. Two ways to differentiate it: GMRES
# solves the linear problem of the implicit function theorem; Neumann-RBP takes so many terms of a series.
import matplotlib.pyplot as plt
import torch

import cde_nets as cn

x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
target = 0.5 * torch.sin(x.sum(1) / 2)


def gradient(backward, norm):
    layer = cn.ImplicitRNN(4, 16, norm=norm, seed=0, parameter_dtype=torch.float64, backward=backward)
    loss = (layer(x).mean(1) - target).square().mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, layer.parameters())])


# %%
# The series' error falls as powers of the Jacobian do, so that the number of terms it needs depends on how fast the
# network comes to rest. GMRES does not ask:
terms = range(0, 25, 4)
errors = {}
for norm in (0.5, 0.8, 0.95):
    exact = gradient(cn.Dense(), norm)
    errors[norm] = [((gradient(cn.Neumann(k), norm) - exact).norm() / exact.norm()).item() for k in terms]
    gmres = ((gradient(cn.GMRES(), norm) - exact).norm() / exact.norm()).item()
    print(f"|W| = {norm}: GMRES within 1e-5: {gmres < 1e-5}, Neumann(4) within 1e-5: {errors[norm][1] < 1e-5}")

# %%
# Both train. The gradient of few terms has an error and often the right direction:
for backward in (cn.GMRES(), cn.Neumann(4)):
    layer = cn.ImplicitRNN(4, 16, seed=0, parameter_dtype=torch.float64, backward=backward)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(60):
        loss = (layer(x).mean(1) - target).square().mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    good = loss.item() < 0.25 * target.var().item()
    print(f"{type(backward).__name__}: loss below a quarter of the target's variance: {good}")

# %%
# The errors against the number of terms:
figure, axes = plt.subplots(figsize=(5, 3.2))
for norm, error in errors.items():
    axes.semilogy(list(terms), error, "o-", label=f"|W| = {norm}")
axes.set_xlabel("K of Neumann(K)")
axes.set_ylabel("relative error of the gradient")
axes.legend(frameon=False)
figure.savefig("equilibrium_layer.png", dpi=110, bbox_inches="tight")

# %%
# ![The error of the gradient falls with the number of terms, slower where the norm is larger](equilibrium_layer.png)
#
# All other ways back, and what to do when training stops converging: [Equilibria](../equilibrium.md).
