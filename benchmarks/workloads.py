"""Which load goes to which chain, and what has to be there before it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson

from benchmarks.chains import FIRST_IDENTIFIER, THIS_CHECKOUT, Chain, Checkout, Machine
from benchmarks.database import Database
from benchmarks.errors import BenchmarkError
from benchmarks.names import BARE, COLD, COLD_ALONE, LOOK_UP, WARM
from benchmarks.rounds import Side
from benchmarks.wrk import Load
from network import http_client
from network.demo import AUTHORIZATION, SAMPLE

WARM_IDENTIFIERS: Final = 1_000
COLD_IDENTIFIERS: Final = 200_000
"""Used in turn, and twenty times what the proxy remembers: none is remembered when its turn comes again."""
QUOTES: Final = 1_000
AT_ONCE: Final = 8
OK: Final = 200


def sides(machine: Machine, workloads: Sequence[str], data: Path) -> list[Side]:
    """Start the bare chain and the mesh; return the sides to compare: bare, and the mesh under each workload."""
    bare = Side(BARE, machine.bare(), Load(WARM, WARM_IDENTIFIERS))
    return [bare, *mesh_sides(machine, workloads, data).values()]


def mesh_sides(
    machine: Machine,
    workloads: Sequence[str],
    data: Path,
    *,
    name: str = "mesh",
    checkout: Checkout = THIS_CHECKOUT,
    database: Database | None = None,
) -> dict[str, Side]:
    """Start the mesh of a checkout and return one side for each workload.

    `cold-alone` gets a second mesh of the same checkout, whose directory announces no batches.
    """
    people = COLD_IDENTIFIERS if {COLD, COLD_ALONE} & {*workloads} else WARM_IDENTIFIERS
    mesh = machine.mesh(name, people, checkout=checkout, database=database)
    found = {}
    for workload in workloads:
        if workload == COLD_ALONE:
            alone = machine.mesh(
                f"{name}-alone", people, takes_batches=False, checkout=checkout, database=database
            )
            found[workload] = Side(workload, alone, Load(COLD, COLD_IDENTIFIERS))
        elif workload == LOOK_UP:
            quotes = _reserve(mesh, data / f"{name}-quotes")
            found[workload] = Side(workload, mesh, Load(workload, WARM_IDENTIFIERS, quotes=quotes))
        else:
            identifiers = COLD_IDENTIFIERS if workload == COLD else WARM_IDENTIFIERS
            found[workload] = Side(workload, mesh, Load(workload, identifiers))
    return found


def _reserve(mesh: Chain, file: Path) -> Path:
    """Reserve quotes to look up: "uuid identifier" lines."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        file.write_text("".join(pool.map(lambda number: _reserved(mesh, number), range(QUOTES))))
    return file


def _reserved(mesh: Chain, number: int) -> str:
    identifier = str(FIRST_IDENTIFIER + number)
    answer = http_client.send(
        "POST",
        f"{mesh.origin}/v1/quoteSourceAmount",
        headers={"Authorization": AUTHORIZATION, "Idempotency-Key": f"look-up-{uuid4()}"},
        body=orjson.dumps({**SAMPLE, "identifier": identifier}),
    )
    if answer.status != OK:
        raise BenchmarkError(f"a quote to look up was answered {answer.status}: {answer.text}")
    reply: dict[str, Any] = answer.json
    return f"{reply['uuid']} {identifier}\n"
