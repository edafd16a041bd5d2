"""The result of one round of one side."""

from dataclasses import dataclass

from benchmarks.names import GENERATOR


@dataclass(frozen=True)
class Measurement:
    """The result of one side in one round.

    `cpu_us` is the processor time per operation of each process, in microseconds.
    """

    round: int
    side: str
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    resident_mib: dict[str, float]
    others_share: float
    """Share of the machine's processor time that other processes used, 0 to 1."""

    def __str__(self) -> str:
        return (
            f"{self.round + 1:>3} {self.connections:>5} {self.side:<12} {self.per_second:>8.0f}/s"
            f"  p50 {self.p50_ms:>7.1f} ms  p99 {self.p99_ms:>7.1f} ms"
            f"  {sum(self.cpu_us.values()) - self.cpu_us[GENERATOR]:>6.0f} us"
            f"  others {self.others_share:.0%}"
        )
