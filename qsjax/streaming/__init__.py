"""Sweeps of any size: streamed in blocks of one shape, resumable, over devices and hosts."""
