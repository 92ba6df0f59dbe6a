"""Public names that take options."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

import cde_nets as cn
import theory
from benchmarks.faults.entries.arrays import CONTROL, IMAGES, POLYNOMIAL, symbols
from benchmarks.faults.entries.judge import Number
from cde_nets import plot

F, DOUBLE = POLYNOMIAL, torch.float64
ZERO = torch.zeros(1, 2, dtype=DOUBLE)
CELL = {"input_size": 2, "hidden_size": 3}
ROW = {
    "epoch": 1, "loss": 1.0, "train_accuracy": 0.5, "validation_accuracy": 0.5, "learning_rate": 0.1, "seconds": 1.0,
}  # fmt: skip


def _image(**options: Any) -> Any:
    return cn.ImageNetworkConfig(**{"size": 8, "classes": 2, "channels": 2, "intervals": (1,), "count": 3, **options})


NUMBERS: dict[str, Number] = {
    "cn.Anderson": Number(cn.Anderson, {"history": 5, "damping": 1.0, "ridge": 1e-10}),
    "cn.AtMost": Number(cn.AtMost, {"method": cn.Picard(), "steps": 9}),
    "cn.Backsolve": Number(cn.Backsolve, {"method": None, "tolerance": None}),
    "cn.Broyden": Number(cn.Broyden, {"history": 20, "damping": 1.0}),
    "cn.CallableControl": Number(
        cn.CallableControl, {"function": torch.sin, "count": 1, "breakpoints": (), "span": (0.0, 1.0), "leaves": ()}
    ),
    "cn.Checkpointed": Number(cn.Checkpointed, {"budget": 3}),
    "cn.ControlledODE": Number(
        functools.partial(cn.ControlledODE, F),
        {"control": CONTROL, "method": "rk4", "manifold": None, "gradient": None, "tolerance": None},
    ),
    "cn.ConvLift": Number(cn.ConvLift, {"channels": 2, "size": 8, "kernel_size": 5, "stride": 2, "seed": 0}),
    "cn.Cutoff": Number(functools.partial(cn.Cutoff, F), {"radius": 1.0, "outer": 2.0}),
    "cn.Dataset": Number(cn.Dataset, {"images": np.zeros((2, 28, 28), np.uint8), "labels": np.zeros(2, np.uint8)}),
    "cn.DifferenceReadout": Number(cn.DifferenceReadout, {"initial": 1.0}),
    "cn.Event": Number(cn.Event, {"function": torch.sum, "direction": "any"}),
    "cn.FlowToRest": Number(
        cn.FlowToRest, {"flow": "bosh3", "step": None, "accuracy": None, "first_step": None, "controller": None}
    ),
    "cn.GMRES": Number(cn.GMRES, {"restart": 20}),
    "cn.GraphGRUCell": Number(cn.GraphGRUCell, {"size": 3, "seed": 0}),
    "cn.HermiteControl": Number(cn.HermiteControl, {"steps": 2, "count": 3}),
    "cn.ImageNetworkConfig": Number(
        _image, {"size": 8, "classes": 2, "intervals": (1,), "count": 3, "kernel": "row", "degree": 2, "seed": 0,
                 "control_scale": 0.1, "readout_scale": 1.0, "method": "euler"}
    ),
    "cn.Implicit": Number(cn.Implicit, {"method": None, "tolerance": None, "max_steps": 10}),
    "cn.ImplicitRNN": Number(cn.ImplicitRNN, {**CELL, "norm": 0.5, "seed": 0}),
    "cn.LinearFields.random": Number(cn.LinearFields.random, {"dim": 2, "count": 3, "seed": 0}),
    "cn.LinearReadout": Number(cn.LinearReadout, {"dim": 2, "outputs": 3}),
    "cn.AnchorReadout": Number(cn.AnchorReadout, {"dim": 3, "classes": 2, "seed": 0, "initial": 1.0}),
    "cn.ChannelMeanReadout": Number(cn.ChannelMeanReadout, {"shape": (2, 1, 1), "classes": 2, "initial": 1.0}),
    "cn.AveragePool": Number(cn.AveragePool, {"shape": (1, 2, 2), "size": 2}),
    "cn.Neumann": Number(cn.Neumann, {"terms": 3}),
    "cn.Newton": Number(cn.Newton, {"damping": 1.0, "line_search": True}),
    "cn.NewtonKrylov": Number(cn.NewtonKrylov, {"krylov": 20, "forcing": 1e-6, "damping": 1.0, "line_search": True}),
    "cn.PIController": Number(
        cn.PIController, {"proportional": 0.2, "integral": 0.65, "safety": 0.9, "shrink": 0.2, "grow": 10.0}
    ),
    "cn.Picard": Number(cn.Picard, {"damping": 1.0, "steps": None}),
    "cn.PiecewiseConstantControl": Number(cn.PiecewiseConstantControl, {"steps": 2, "count": 3}),
    "cn.PiecewiseLinearControl": Number(cn.PiecewiseLinearControl, {"steps": 2, "count": 3}),
    "cn.PolynomialFields.random": Number(
        cn.PolynomialFields.random, {"dim": 2, "count": 3, "degree": 2, "seed": 0, "latent": None}
    ),
    "cn.RBP": Number(cn.RBP, {"z0": None, "terms": 3}),
    "cn.RandomlyTruncated": Number(
        cn.RandomlyTruncated, {"horizon": 5, "distribution": "uniform", "mean": 2.0, "generator": None}
    ),
    "cn.ResidualBlock": Number(cn.ResidualBlock, {"branch": torch.nn.Identity(), "step": 1.0}),
    "cn.Reversible": Number(cn.Reversible, {"base": cn.RungeKutta("rk4", steps=4), "mixing": 0.999}),
    "cn.RidgeFields.random": Number(cn.RidgeFields.random, {"dim": 2, "count": 3, "degree": 2, "seed": 0}),
    "cn.ConvFields.random": Number(
        cn.ConvFields.random,
        {"channels": 2, "height": 2, "width": 2, "count": 3, "kernel": "row", "kernel_size": 3, "degree": 2, "seed": 0},
    ),
    "cn.RungeKutta": Number(
        cn.RungeKutta,
        {"name": "rk4", "steps": 4, "per_row": True, "first_step": None, "controller": None, "mesh": None},
    ),
    "cn.SaveAt": Number(cn.SaveAt, {"times": None, "steps": True, "dense": False}),
    "cn.SpectralControl": Number(cn.SpectralControl, {"terms": 3, "count": 2, "basis": "cosine"}),
    "cn.SphericalFields": Number(cn.SphericalFields, {"base": F}),
    "cn.TanhCell": Number(cn.TanhCell, {**CELL, "norm": 0.5, "seed": 0}),
    "cn.Tolerance": Number(cn.Tolerance, {"rtol": 1e-6, "atol": 1e-8}),
    "cn.TorchDiffEq": Number(cn.TorchDiffEq, {"name": "dopri5", "options": {}}),
    "cn.TrainConfig": Number(
        cn.TrainConfig,
        {"epochs": 3, "batch_size": 2, "learning_rate": 0.1, "optimizer": "adam", "shift": 1.0, "smoothing": 0.1,
         "seed": 0},
    ),
    "cn.Truncated": Number(cn.Truncated, {"steps": 3}),
    "cn.UniversalFields": Number(cn.UniversalFields, {"dim": 2}),
    "cn.evaluate": Number(
        functools.partial(cn.evaluate, cn.image_network(_image())),
        {"images": torch.zeros(2, 8, 8, dtype=torch.uint8), "labels": torch.zeros(2, dtype=torch.int64),
         "batch_size": 10},
    ),
    "cn.prove_interpolation": Number(
        functools.partial(cn.prove_interpolation, F),
        {"x": ZERO, "y": ZERO, "found": cn.interpolate(F, ZERO, ZERO, lam=1.0, steps=2, time_limit=5, seed=0),
         "precision": 64, "time_limit": 1},
    ),
    "cn.solve": Number(
        functools.partial(cn.solve, cn.InitialValueProblem(lambda t, x: -x, torch.ones(1, 2))),
        {"method": cn.RungeKutta("rk4", steps=2), "gradient": None, "tolerance": None, "max_steps": 9,
         "progress": False, "save_at": None},
    ),
    "theory.RestrictedProgram": Number(theory.RestrictedProgram, {"base": theory.five_fields(2), "radius": 2}),
    "theory.SphericalProgram": Number(theory.SphericalProgram, {"base": theory.five_fields(2)}),
    "theory.UnionProgram": Number(theory.UnionProgram, {"parts": [theory.five_fields(2)]}),
    "theory.enclose": Number(
        functools.partial(theory.enclose, theory.five_fields(2), [[0, 0]], [[0, 0]]),
        {"controls": np.zeros((2, 5)), "a": [[]], "b": [1], "substeps": 1, "lam": 1.0},
    ),
    "theory.five_diagonal": Number(theory.five_diagonal, {"m": 2}),
    "theory.five_fields": Number(theory.five_fields, {"m": 2}),
    "theory.two_fields": Number(theory.two_fields, {"m": 2}),
    "theory.monomial_count": Number(theory.monomial_count, {"dim": 2, "degree": 2}),
    "theory.monomial_exponents": Number(theory.monomial_exponents, {"dim": 2, "degree": 2}),
    "theory.lie_algebra": Number(
        functools.partial(theory.lie_algebra, [[1, 0], [0, 1]]), {"symbols": symbols(), "depth": 2, "basis": "lyndon"}
    ),
    "plot.curves": Number(plot.curves, {"rows": [ROW], "chosen_epoch": 1}),
    "plot.image_flow": Number(
        functools.partial(plot.image_flow, cn.image_network(_image())),
        {"images": torch.from_numpy(IMAGES[:, 0]).float(), "labels": torch.zeros(2, dtype=torch.int64)},
    ),
}  # fmt: skip
