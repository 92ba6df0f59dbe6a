import matplotlib.pyplot as plt
import pytest
import torch

import cde_nets as cn


def settings():
    # Asking for the backend would choose one.
    return {name: plt.rcParams[name] for name in plt.rcParams if name != "backend"}


@pytest.fixture(autouse=True)
def no_global_state():
    # What tests of other rooms have left, as tutorials draw by pyplot.
    plt.close("all")
    before = settings()
    yield
    assert plt.get_fignums() == [], "pyplot was not asked for a figure"
    assert settings() == before, "the user's settings hold outside"


@pytest.fixture
def flow():
    """Small controls in the plane, or elsewhere, on 8 intervals."""

    def make(dim=2, **arguments):
        fields = cn.PolynomialFields.random(dim, 4, 2, seed=0, dtype=torch.float64)
        smooth = cn.SpectralControl.random(4, 4, scale=0.3, seed=1, dtype=torch.float64)
        values = smooth.at((torch.arange(8, dtype=torch.float64) + 0.5) / 8).detach()
        return cn.ControlledODE(fields, cn.PiecewiseConstantControl(8, 4, values=values), **arguments)

    return make


@pytest.fixture
def starts():
    def draw(points=6, dim=2):
        generator = torch.Generator().manual_seed(3)
        return 2 * torch.rand(points, dim, dtype=torch.float64, generator=generator) - 1

    return draw
