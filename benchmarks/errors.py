"""The error that ends a benchmark."""


class BenchmarkError(RuntimeError):
    """The benchmark cannot run, or the result of a round is not valid."""
