"""Certify fields, then steer points."""

# %%
# # Certify fields, then steer points
#
# Which points can flows along given fields carry where? First the proof that controls exist, then the controls.
import torch

import cde_nets as cn
import theory

fields = cn.PolynomialFields.random(dim=2, count=5, degree=2, seed=0, dtype=torch.float64)
x, y = 2 * torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1

certificate = theory.check_points(fields, x, seed=0)
print(certificate)

# %%
# The certificate is about these six points and targets nearby. That it holds for every N, at all distinct points, is a
# stronger claim, with a proof of its own:
print(theory.universal(fields, seed=0))

# %%
# Where the rank falls short nothing is proved. Here it is plain that it must: linear fields and their brackets are
# matrices, of which there are m² = 4 dimensions, and three points of the plane ask for six.
linear = cn.LinearFields.random(dim=2, count=2, seed=0)
print(theory.check_points(linear, x[:3], seed=0))

# %%
# Now the controls. The readout is y = 10 (X₁ − x), so that each point goes a tenth of its target's length.
found = cn.interpolate(fields, x, y, lam=10.0, least_energy=True)
flow = cn.ControlledODE(fields, found.control, found.method)
print(found.status, bool((10 * (flow(x) - x) - y).abs().max() < 1e-9))

# %%
# One control for all six points, and their paths:
from cde_nets.plot import targets  # noqa: E402

axes = targets(flow, x, y, lam=10.0)
axes.figure.savefig("certify_and_steer.png", dpi=110, bbox_inches="tight")

# %%
# ![Six points, their paths and their targets](certify_and_steer.png)
#
# The certificate can be written as a file and proved again without this package: [Certificates](../theory.md).
