"""Makes the rows of waterfalls from spans and log lines. The module does no input or output.

A trace may have several requests, such as a reservation and a payment: each gets its waterfall. A row is one request at
one service. It is made from a span. If no span of the service arrived (the request was not sampled, the span was lost,
the service is not traced), it is made from the service's log line.

The clocks of two machines differ. If a row begins outside the row of its caller, it is moved there, with all rows below
it, and the row says by how much.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from console.traces.log_line import LogLine
from console.traces.span import ERROR_MESSAGE, Span

CALLED_BY: Final = {
    "spsp-client-proxy": "dfsp-api-payer",
    "central-directory": "spsp-client-proxy",
    "spsp-client": "spsp-client-proxy",
    "spsp-server": "spsp-client",
    "spsp-server-backend": "spsp-server",
    "dfsp-api": "spsp-server-backend",
}
"""The service that calls each service of the chain, for rows that are made of log lines."""

MATCH_NS: Final = 1_000_000_000
"""A span and a log line of one request end at most this far apart."""
GAP_NS: Final = 2_000_000
"""Two requests of a trace are at least this far apart. Times in logs are exact to a millisecond."""
NOTED_SHIFT_NS: Final = 5_000_000


@dataclass(frozen=True)
class Row:
    """One request at one service. `offset` and `width` are shares of the waterfall's duration, from 0 to 1.

    `depth` is the number of callers above it. `shift_ns` was added to its start because its clock differs.
    """

    service: str
    name: str
    depth: int
    offset: float
    width: float
    start_ns: int
    duration_ns: int
    status: int | None
    error_id: str | None
    is_error: bool
    is_first_error: bool
    span: Span | None
    shift_ns: int
    lacks_caller: bool
    lines: tuple[LogLine, ...]

    @property
    def cause(self) -> str:
        """Return the cause of the error, as the log or the span names it; empty if neither does."""
        logged = next(
            (text for line in self.lines if line.is_request and (text := line.text_of("cause"))), ""
        )
        return logged or str(self.span.attributes.get(ERROR_MESSAGE, "") if self.span is not None else "")


@dataclass(frozen=True)
class Waterfall:
    """One request with all its hops: each row comes after the row of its caller."""

    rows: tuple[Row, ...]
    start_ns: int
    duration_ns: int

    @property
    def span_count(self) -> int:
        return sum(row.span is not None for row in self.rows)

    @property
    def first_error(self) -> Row | None:
        """Return the row in which the error began; None if the request succeeded."""
        return next((row for row in self.rows if row.is_first_error), None)


@dataclass(frozen=True)
class Timeline:
    """The waterfalls of a trace in the order of time, and the lines that belong to none of their rows."""

    waterfalls: tuple[Waterfall, ...]
    other_lines: tuple[LogLine, ...]


@dataclass(eq=False)
class _Node:
    """A row that is being made. `start_ns` changes when its clock is found to differ."""

    service: str
    name: str
    start_ns: int
    duration_ns: int
    status: int | None
    error_id: str | None
    is_error: bool
    span: Span | None
    lines: list[LogLine] = field(default_factory=list)
    children: "list[_Node]" = field(default_factory=list)
    shift_ns: int = 0
    lacks_caller: bool = False

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


def timeline(spans: Sequence[Span], lines: Sequence[LogLine]) -> Timeline:
    """Return the timeline of one trace. Each span is in one row, and each line is in one row or in `other_lines`."""
    nodes = [_of_span(span) for span in spans]
    requests = [line for line in lines if line.is_request]
    matched = _match(nodes, requests)
    logged = [_of_line(line) for index, line in enumerate(requests) if index not in matched]
    roots = _link_spans(nodes)
    roots = _link_logged(roots, logged)
    for root in roots:
        _align(root)
    every = [node for root in roots for node, _ in _walk(root)]
    other = [line for line in lines if not line.is_request and not _attach(line, every)]
    return Timeline(tuple(_waterfall(group) for group in _groups(roots)), tuple(other))


def _of_span(span: Span) -> _Node:
    return _Node(
        span.service,
        span.name,
        span.start_ns,
        span.duration_ns,
        span.status,
        span.error_id,
        span.is_error,
        span,
    )


def _of_line(line: LogLine) -> _Node:
    duration = line.duration_ns or 0
    name = f"{line.text_of('method')} {line.text_of('path')}".strip()
    is_error = line.error_id is not None
    return _Node(
        line.service,
        name,
        line.end_ns - duration,
        duration,
        line.status,
        line.error_id,
        is_error,
        None,
        [line],
    )


def _match(nodes: Sequence[_Node], requests: Sequence[LogLine]) -> set[int]:
    """Give each node the log line of the same request. Return the indexes of the lines that have a node."""
    by_service: dict[str, list[int]] = {}
    for index, line in enumerate(requests):
        by_service.setdefault(line.service, []).append(index)
    pairs = sorted(
        (distance + abs(node.duration_ns - (requests[index].duration_ns or 0)), number, index)
        for number, node in enumerate(nodes)
        if not _span_of(node).is_shared
        for index in by_service.get(node.service, ())
        if (distance := abs(node.end_ns - requests[index].end_ns)) <= MATCH_NS
    )
    taken, matched = set[int](), set[int]()
    for _, number, index in pairs:
        if number not in taken and index not in matched:
            taken.add(number)
            matched.add(index)
            nodes[number].lines.append(requests[index])
    return matched


def _link_spans(nodes: Sequence[_Node]) -> list[_Node]:
    """Put each node below the node of its parent span. Return the nodes that have no parent here.

    The node of a batch or statement is below a request that it served. Spans come from other processes: two may have the same id, and parents may form a ring. A ring is cut open.
    """
    by_id: dict[str, _Node] = {}
    by_link: dict[tuple[str, str], _Node] = {}
    for node in nodes:
        span = _span_of(node)
        by_id.setdefault(span.span_id, node)
        if not span.is_shared:
            for link in span.links:
                by_link.setdefault(link, node)
    roots = []
    above: dict[_Node, _Node] = {}
    for node in nodes:
        span = _span_of(node)
        parent_id = span.parent_id
        parent = by_id.get(parent_id) if parent_id else None
        if span.is_shared:
            parent = by_link.get((span.trace_id, span.span_id))
        if parent is None or _is_above(above, node, parent):
            node.lacks_caller = parent_id is not None
            roots.append(node)
        else:
            above[node] = parent
            parent.children.append(node)
    return roots


def _span_of(node: _Node) -> Span:
    assert node.span is not None  # noqa: S101 - only nodes of spans are linked by spans
    return node.span


def _is_above(above: dict[_Node, _Node], node: _Node, other: _Node) -> bool:
    """Whether `node` is `other` or above it."""
    at: _Node | None = other
    while at is not None:
        if at is node:
            return True
        at = above.get(at)
    return False


def _link_logged(roots: Sequence[_Node], logged: Sequence[_Node]) -> list[_Node]:
    """Make each log line, and each span whose caller is missing, a child of the nearest earlier hop in the chain."""
    by_service: dict[str, list[_Node]] = {}
    for node in [*(node for root in roots for node, _ in _walk(root)), *logged]:
        by_service.setdefault(node.service, []).append(node)
    left = []
    for node in [*roots, *logged]:
        caller = _caller(node, by_service) if node.span is None or node.lacks_caller else None
        if caller is None:
            left.append(node)
        else:
            caller.children.append(node)
            node.lacks_caller = False
    # the chain's first hop has no caller among the services: the caller's own span is not expected here
    for node in left:
        node.lacks_caller = node.lacks_caller and node.service in CALLED_BY
    return left


def _caller(node: _Node, by_service: Mapping[str, Sequence[_Node]]) -> _Node | None:
    """Return the node of the nearest hop before this one that was in progress at the same time."""
    below = {id(each) for each, _ in _walk(node)}
    service = CALLED_BY.get(node.service)
    while service is not None:
        found = [each for each in by_service.get(service, ()) if id(each) not in below]
        best = max(found, key=lambda each: _overlap_ns(each, node), default=None)
        if best is not None and _overlap_ns(best, node) >= -GAP_NS:
            return best
        service = CALLED_BY.get(service)
    return None


def _overlap_ns(first: _Node, second: _Node) -> int:
    """Return how long both were in progress at the same time; the negative time between them if they were not."""
    return min(first.end_ns, second.end_ns) - max(first.start_ns, second.start_ns)


def _walk(root: _Node) -> Iterator[tuple[_Node, int]]:
    """Yield a node and all below it, each with its depth: a caller before its calls, and calls in their order."""
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        ordered = sorted(node.children, key=lambda each: (each.start_ns, -each.duration_ns), reverse=True)
        waiting += [(child, depth + 1) for child in ordered]


def _align(root: _Node) -> None:
    """Move each node that begins outside its caller into it, with all below it."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for child in node.children:
            child.shift_ns += node.shift_ns
            child.start_ns += node.shift_ns
            if not node.start_ns <= child.start_ns <= node.end_ns:
                slack = max(node.duration_ns - child.duration_ns, 0)
                moved = node.start_ns + slack // 2 - child.start_ns
                child.shift_ns += moved
                child.start_ns += moved
            waiting.append(child)


def _attach(line: LogLine, nodes: Sequence[_Node]) -> bool:
    """Give a line to the request that its service had in progress. Return whether there was one."""

    def distance_ns(node: _Node) -> int:
        start = node.start_ns - node.shift_ns  # on the clock of the service
        return max(start - line.end_ns, line.end_ns - start - node.duration_ns, 0)

    own = [node for node in nodes if node.service == line.service]
    nearest = min(own, key=lambda node: (distance_ns(node), node.duration_ns), default=None)
    if nearest is None or distance_ns(nearest) > MATCH_NS:
        return False
    nearest.lines.append(line)
    return True


def _groups(roots: Sequence[_Node]) -> list[list[_Node]]:
    """Split the roots into requests: one has ended before the next one begins."""
    groups: list[list[_Node]] = []
    last_end = 0
    for root in sorted(roots, key=lambda each: (each.start_ns, -each.duration_ns)):
        if not groups or root.start_ns > last_end + GAP_NS:
            groups.append([])
        groups[-1].append(root)
        last_end = max([last_end, *(node.end_ns for node, _ in _walk(root))])
    return groups


def _waterfall(roots: Sequence[_Node]) -> Waterfall:
    placed = [(node, depth) for root in roots for node, depth in _walk(root)]
    start = min(node.start_ns for node, _ in placed)
    duration = max(node.end_ns for node, _ in placed) - start
    first_error = _first_error(placed)
    rows = tuple(
        _row(node, depth, start, duration or 1, is_first_error=node is first_error) for node, depth in placed
    )
    return Waterfall(rows, start, duration)


def _first_error(placed: Sequence[tuple[_Node, int]]) -> _Node | None:
    """Return the deepest node with an error; of several, the latest."""
    failed = [(depth, node.start_ns, number) for number, (node, depth) in enumerate(placed) if node.is_error]
    return placed[max(failed)[2]][0] if failed else None


def _row(node: _Node, depth: int, start_ns: int, duration_ns: int, *, is_first_error: bool) -> Row:
    return Row(
        node.service,
        node.name,
        depth,
        (node.start_ns - start_ns) / duration_ns,
        min(node.duration_ns / duration_ns, 1.0),
        node.start_ns,
        node.duration_ns,
        node.status,
        node.error_id,
        node.is_error,
        is_first_error,
        node.span,
        node.shift_ns if abs(node.shift_ns) >= NOTED_SHIFT_NS else 0,
        node.lacks_caller,
        tuple(sorted(node.lines, key=lambda line: line.time)),
    )
