"""Unit factors: multiply on the way in, divide on the way out (`80 * GB`, `t / MS`)."""

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KIB, MIB, GIB = 2.0**10, 2.0**20, 2.0**30
GFLOP, TFLOP, PFLOP = 1e9, 1e12, 1e15
US, MS = 1e-6, 1e-3
HOUR = 3600.0
