"""Arithmetic that stays finite, laws as lists of operations, and NumPy to run them."""
