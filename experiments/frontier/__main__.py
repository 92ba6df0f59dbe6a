"""`python -m experiments.frontier`."""

from experiments.frontier.command import app

app()
