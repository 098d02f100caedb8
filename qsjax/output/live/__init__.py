"""The live page: sliders over a problem, answered by `explore` at every move."""
