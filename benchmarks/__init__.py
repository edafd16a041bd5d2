"""Benchmarks: compare the speed of this project's chain ("mesh") with that of the simplest possible chain ("bare")."""
