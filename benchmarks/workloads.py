"""The workloads: prepare the chain, the load and the stored quotes that each of them needs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson

from benchmarks.chains import FIRST_IDENTIFIER, THIS_CHECKOUT, Checkout, Machine, MeasuredChain
from benchmarks.database import BenchmarkDatabase
from benchmarks.errors import BenchmarkError
from benchmarks.names import BARE, COLD, COLD_ALONE, LOOK_UP, WARM
from benchmarks.rounds import Side
from benchmarks.wrk import WrkLoad
from network import http_client
from network.demo import AUTHORIZATION, SAMPLE

WARM_IDENTIFIERS: Final = 1_000
COLD_IDENTIFIERS: Final = 200_000
"""Twenty times the size of the proxy's cache, so an identifier has left the cache before it is used again."""
QUOTES: Final = 1_000
THREADS: Final = 8
OK: Final = 200


def sides(machine: Machine, workloads: Sequence[str], data: Path) -> list[Side]:
    """Start both chains; return the sides to compare: the bare chain, and this project's chain under each workload."""
    bare = Side(BARE, machine.bare(), WrkLoad(WARM, WARM_IDENTIFIERS))
    return [bare, *mesh_sides(machine, workloads, data).values()]


def mesh_sides(
    machine: Machine,
    workloads: Sequence[str],
    data: Path,
    *,
    name: str = "mesh",
    checkout: Checkout = THIS_CHECKOUT,
    database: BenchmarkDatabase | None = None,
) -> dict[str, Side]:
    """Start the network of a checkout and return one side for each workload, by the workload's name.

    The workload `cold-alone` gets a second network of the same checkout, whose directory takes no batches.
    """
    people = COLD_IDENTIFIERS if {COLD, COLD_ALONE} & {*workloads} else WARM_IDENTIFIERS
    mesh = machine.mesh(name, people, checkout=checkout, database=database)
    found = {}
    for workload in workloads:
        if workload == COLD_ALONE:
            alone = machine.mesh(
                f"{name}-alone", people, takes_batches=False, checkout=checkout, database=database
            )
            found[workload] = Side(workload, alone, WrkLoad(COLD, COLD_IDENTIFIERS))
        elif workload == LOOK_UP:
            quotes = _reserve(mesh, data / f"{name}-quotes")
            found[workload] = Side(workload, mesh, WrkLoad(workload, WARM_IDENTIFIERS, quotes=quotes))
        else:
            identifiers = COLD_IDENTIFIERS if workload == COLD else WARM_IDENTIFIERS
            found[workload] = Side(workload, mesh, WrkLoad(workload, identifiers))
    return found


def _reserve(mesh: MeasuredChain, file: Path) -> Path:
    """Reserve the quotes that the workload looks up.

    Write a line "uuid identifier" for each to the file; return its path.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        file.write_text("".join(pool.map(lambda number: _reserved(mesh, number), range(QUOTES))))
    return file


def _reserved(mesh: MeasuredChain, number: int) -> str:
    identifier = str(FIRST_IDENTIFIER + number)
    answer = http_client.send(
        "POST",
        f"{mesh.origin}/v1/quoteSourceAmount",
        headers={"Authorization": AUTHORIZATION, "Idempotency-Key": f"look-up-{uuid4()}"},
        body=orjson.dumps({**SAMPLE, "identifier": identifier}),
    )
    if answer.status != OK:
        raise BenchmarkError(f"reserving a quote to look up was answered with {answer.status}: {answer.text}")
    reply: dict[str, Any] = answer.json
    return f"{reply['uuid']} {identifier}\n"
