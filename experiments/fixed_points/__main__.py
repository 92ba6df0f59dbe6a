"""`python -m experiments.fixed_points`."""

from experiments.fixed_points.command import app

app()
