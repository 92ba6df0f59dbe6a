"""Flows: methods, steps, events, manifolds."""
