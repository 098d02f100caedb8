"""Where the numbers are held against measurements and against the paper."""
