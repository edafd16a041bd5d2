"""The table of faults in containers: for each fault under load, what happened to the requests."""

import collections
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from support.load import Load

_HEAD = (
    "container",
    "fault",
    "requests sent",
    "answered at once",
    "failed, and with which error",
    "keys",
    "completed by repeating",
    "lost",
    "doubled",
)


@dataclass
class FaultTable:
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, container: str, fault: str, loads: Mapping[str, Load], *, lost: int, doubled: int) -> None:
        outcomes = [outcome for load in loads.values() for outcome in load.outcomes]
        failed = collections.Counter(
            orjson.loads(each.body)["id"] if each.status is not None else "connection lost"
            for each in outcomes
            if each.status != 200
        )
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(failed.items())) or "none"
        keys = sum(len(load.payments) for load in loads.values())
        good = sum(each.status == 200 for each in outcomes)
        # a payment needs three requests; all others were repetitions
        repeated = len(outcomes) - good
        values = (
            len(outcomes),
            good,
            f"{sum(failed.values())}: {kinds}" if failed else kinds,
            keys,
            repeated,
        )
        self.rows.append((container, fault, *map(str, values), str(lost), str(doubled)))

    def markdown(self) -> str:
        lines = [_HEAD, tuple("---" for _ in _HEAD), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def page(self) -> str:
        return (
            "# Faults in containers\n\n"
            "`make test-containers FAULTS=docs/containers-faults.md` writes this page. Two DFSPs run in containers, with one\n"
            "replica of each service, under steady load at both published ports (reserve, execute, look up; 1.5 s to answer).\n"
            "Each container in turn is stopped, paused, killed, and cut off from all its networks for about two seconds. A\n"
            "request that fails gets a documented error within its time. If the callers' connections end at the container (at\n"
            "the load balancer, or at the payer's `dfsp-api` behind it), their connection is lost instead. Callers repeat with\n"
            "the same key until they have an answer. *Lost*: a quote or payment that was answered 200 but is not in the payee's\n"
            "database with exactly those terms. *Doubled*: more rows than keys, or two answers to one key.\n\n"
            + self.markdown()
        )
