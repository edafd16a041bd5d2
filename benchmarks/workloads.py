"""Which load goes to which chain, and what has to be there before it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import orjson

from benchmarks.chains import FIRST_IDENTIFIER, Chain, Machine
from benchmarks.errors import BenchmarkError
from benchmarks.names import BARE, COLD, COLD_ALONE, LOOK_UP, WARM
from benchmarks.rounds import Side
from benchmarks.wrk import Load
from network import http
from network.demo import AUTHORIZATION, SAMPLE

WARM_IDENTIFIERS: Final = 1_000
COLD_IDENTIFIERS: Final = 200_000
"""Used in turn, and twenty times what the proxy remembers: none is remembered when its turn comes again."""
QUOTES: Final = 1_000
AT_ONCE: Final = 8
OK: Final = 200


def sides(machine: Machine, workloads: Sequence[str], data: Path) -> list[Side]:
    """The bare chain, and the mesh under each of the workloads."""
    people = COLD_IDENTIFIERS if {COLD, COLD_ALONE} & {*workloads} else WARM_IDENTIFIERS
    found = [Side(BARE, machine.bare(), Load(WARM, WARM_IDENTIFIERS))]
    mesh = machine.mesh("mesh", people)
    for workload in workloads:
        if workload == COLD_ALONE:
            alone = machine.mesh("mesh-alone", people, takes_batches=False)
            found.append(Side(workload, alone, Load(COLD, COLD_IDENTIFIERS)))
        elif workload == LOOK_UP:
            quotes = _reserve(mesh, data / "quotes")
            found.append(Side(workload, mesh, Load(workload, WARM_IDENTIFIERS, quotes=quotes)))
        else:
            identifiers = COLD_IDENTIFIERS if workload == COLD else WARM_IDENTIFIERS
            found.append(Side(workload, mesh, Load(workload, identifiers)))
    return found


def _reserve(mesh: Chain, file: Path) -> Path:
    """Reserve quotes to look up: "uuid identifier" lines."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        file.write_text("".join(pool.map(lambda number: _reserved(mesh, number), range(QUOTES))))
    return file


def _reserved(mesh: Chain, number: int) -> str:
    identifier = str(FIRST_IDENTIFIER + number)
    answer = http.send(
        "POST",
        f"{mesh.origin}/v1/quoteSourceAmount",
        headers={"Authorization": AUTHORIZATION, "Idempotency-Key": f"look-up-{uuid4()}"},
        body=orjson.dumps({**SAMPLE, "identifier": identifier}),
    )
    if answer.status != OK:
        raise BenchmarkError(f"a quote to look up was answered {answer.status}: {answer.text}")
    reply: dict[str, Any] = answer.json
    return f"{reply['uuid']} {identifier}\n"
