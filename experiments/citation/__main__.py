"""`python -m experiments.citation`."""

from experiments.citation.command import app

app()
