"""The error that ends a benchmark."""


class BenchmarkError(RuntimeError):
    """The benchmark cannot run, or a round does not count."""
