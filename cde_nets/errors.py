"""Errors that are not plain ValueErrors."""


class DivergedError(ArithmeticError):
    """A flow left every bounded set, or overflowed, before time 1."""
