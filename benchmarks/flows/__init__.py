"""Controlled flows beside torchdiffeq, torchode, diffrax and plain JAX, in one run."""
