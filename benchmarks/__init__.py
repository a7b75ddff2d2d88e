"""Benchmarks: side by side in one run, medians and ranges, as ratios where two are compared."""
