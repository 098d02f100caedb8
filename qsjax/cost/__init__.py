"""The cost of one decode step and of a prefill: the laws composed, with every term visible."""
