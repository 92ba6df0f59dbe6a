"""`python -m experiments.hopfield`."""

from experiments.hopfield.command import app

app()
