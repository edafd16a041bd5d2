"""What ends a benchmark in a sentence."""


class BenchmarkError(RuntimeError):
    """It cannot be run, or what it measured does not count."""
