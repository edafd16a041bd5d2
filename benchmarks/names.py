"""Names of workloads and processes. Pure: no I/O."""

from typing import Final

BARE: Final = "bare"
WARM, COLD, COLD_ALONE, PAY, LOOK_UP, REFUSE = "warm", "cold", "cold-alone", "pay", "look-up", "refuse"
WORKLOADS: Final = (WARM, COLD, COLD_ALONE, PAY, LOOK_UP, REFUSE)

MAKE_RUN: Final = "make-run"
"""Name of the process of `make run`, which starts the services and prints a line for each request or second."""
DIRECTORY: Final = "central-directory"
POSTGRES: Final = "postgres"
GENERATOR: Final = "wrk"
