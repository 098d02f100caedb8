"""The tolerances of all tests, each with its reason. Relative unless the name says otherwise."""

# float64 against the same formula in another order of operations.
EXACT = 1e-9
# A difference of two nearly equal times, as a share of the larger one.
CANCELLATION = 1e-12
# Scaling by a power of two, which changes no mantissa.
SCALING = 1e-12
# Published values are printed with three digits.
PRINTED_3_DIGITS = 5e-3
# A slope against a central difference: truncation and cancellation both near 1e-7.
FINITE_DIFFERENCE = 1e-5
# A maximum may fall by rounding where theory says that it does not fall.
MONOTONE = 1e-12
# The same against an extrapolated central difference, where the function is smooth.
EXTRAPOLATED_DIFFERENCE = 1e-6
# A root against its definition: twice the stated accuracy of the solver.
ROOT = 1e-9
