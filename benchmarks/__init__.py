"""Measurements of the package's speed, with the machine's own limits beside them."""
