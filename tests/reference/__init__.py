"""Published methods as their papers describe them, one caption after the other.

What the package computes for all pairs at once is compared with these: the tests compare the
scores, the benchmark the time.
"""
