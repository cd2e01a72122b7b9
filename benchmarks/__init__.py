"""Measurements of LDC against what users would run instead: `python -m benchmarks --help`."""
