"""Serving over time: requests that arrive, wait, share steps and leave, for many deployments."""
