"""Every design of a problem at once: axes, legal designs, limits, and the search for the best."""
