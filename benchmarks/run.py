"""`python -m benchmarks.run`: every measurement of speed, as one JSON object."""
