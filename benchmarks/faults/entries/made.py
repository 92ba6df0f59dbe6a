"""Public names that a user is given and does not make, or that only name something: there is nothing to feed."""

MADE = {
    "results": {
        "cn.Estimate", "cn.Interpolation", "cn.Pullback", "cn.Solution", "cn.Statistics", "theory.Accessibility",
        "theory.Bracket", "theory.Certificate", "theory.Condition", "theory.Enclosure", "theory.Generic",
        "theory.Growth", "theory.Run",
    },
    "words": {"cn.Status", "cn.SteerStatus"},
    "errors": {
        "cn.ConvergenceError", "cn.ConvergenceWarning", "cn.DivergedError", "cn.SolveError", "theory.NoResidueError",
    },
    "base classes": {
        "cn.Control", "cn.Fields", "cn.Gradient", "cn.Method", "cn.Readout", "cn.Scheme", "theory.Program",
        "theory.RingArray",
    },
    "without arguments": {
        "cn.Autograd", "cn.BiCGStab", "cn.CG", "cn.Dense", "cn.Discrete", "cn.ForwardMode", "cn.OneStep",
        "cn.Unrolled", "cn.pretrained_networks",
    },
    # `python -m benchmarks.faults feed` feeds these, or what reads for them.
    "files": {"cn.Run", "cn.load_network", "cn.save_network", "cn.Trainer", "cn.load_mnist", "theory.parse_fields",
              "plot.save", "plot.run_pictures", "plot.animate"},
    # Arrays of residues and of fractions inside of programs, made by `exact_array` and by programs.
    "the inside of programs": {"theory.Rationals", "theory.Residues", "theory.ExactArray"},
    # Modules of modules, and data classes of arrays that their parts check.
    "made of others": {"cn.MNIST", "cn.Network", "cn.Stage", "cn.exact_flow", "cn.to_residual", "theory.generic",
                       "plot.growth", "plot.growth_bars", "plot.growth_legend"},
}  # fmt: skip
