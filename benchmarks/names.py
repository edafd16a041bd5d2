"""Names by which workloads and processes are known. Pure."""

from typing import Final

BARE: Final = "bare"
WARM, COLD, COLD_ALONE, PAY, LOOK_UP, REFUSE = "warm", "cold", "cold-alone", "pay", "look-up", "refuse"
WORKLOADS: Final = (WARM, COLD, COLD_ALONE, PAY, LOOK_UP, REFUSE)

MAKE_RUN: Final = "make-run"
"""Starts the services, restarts them, and shows a line a request or, under load, a second."""
DIRECTORY: Final = "central-directory"
POSTGRES: Final = "postgres"
GENERATOR: Final = "wrk"
