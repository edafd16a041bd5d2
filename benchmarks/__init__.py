"""Benchmarks: the chain compared with the simplest one possible, in one run on one machine."""
