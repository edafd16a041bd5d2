"""What `make run` shows of its requests: each, or how many."""

import io
import os

import pytest

from chassis.logs import Logs, LogWriter, iso_time
from network.log_files import LogChunk
from network.request_counter import RequestCounter, RequestCounts
from network.request_printer import RequestPrinter, TraceBuffer
from network.terminal import Terminal
from network.topology import CHAIN
from support.log_lines import entry, record


def test_a_request_is_told_once_by_its_first_service_when_its_trace_is_quiet():
    requests = TraceBuffer()
    requests.add([record("dfsp-api", at=1.009, ms=2), record("dfsp-api-payer", at=1.01, ms=9)], 0.0)
    assert [] == requests.take(0.4)
    assert ["dfsp-api-payer"] == [one.service for one in requests.take(0.5)]
    requests.add([record("spsp-server", at=1.011, ms=5)], 0.6)
    assert [] == requests.take(2.0)


def test_each_request_of_a_trace_that_is_used_again_is_told():
    requests = TraceBuffer()
    requests.add([record("dfsp-api-payer", at=at) for at in (1, 2)] + [record(at=1.0, ms=0.5)], 0.0)
    assert 2 == len(requests.take(1.0))
    requests.add([record("dfsp-api-payer", at=3)], 1.0)
    assert 1 == len(requests.take(2.0))


def test_a_request_to_a_service_further_down_is_told_too_and_other_lines_are_not():
    requests = TraceBuffer(ignored=["demo"])
    requests.add([record("spsp-server"), record(trace="demo"), record(trace="e", event="started")], 0.0)

    assert ["spsp-server"] == [one.service for one in requests.take(1.0)]


def test_no_more_than_so_many_traces_are_kept_in_memory():
    requests = TraceBuffer()
    requests.add([record(trace=str(number)) for number in range(7_000)], 0.0)

    assert 2_000 == len(requests.take(0.1))
    assert 5_000 == len(requests._traces)


class Window:
    """What is shown of chunks as time goes by."""

    def __init__(self):
        self._stream = io.StringIO()
        self._printer = RequestPrinter(Terminal(self._stream), wall_clock=lambda: 0.0, ignored=["demo"])

    def look(self, now, *chunks):
        """What a look at the logs adds."""
        before = self._stream.tell()
        self._printer.show(chunks, now)
        return [line[14:] for line in self._stream.getvalue()[before:].splitlines()]


@pytest.fixture
def window():
    return Window()


def chunk(service, traces, **fields):
    return LogChunk(
        service, "".join(entry(service, trace=str(trace), **fields) + "\n" for trace in traces).encode()
    )


def chain(traces, **fields):
    return [chunk(service, traces, **fields) for service in CHAIN]


def traces_in(lines):
    return [line.split()[-1] for line in lines]


def test_few_requests_are_told_each_in_a_line(window):
    assert [] == window.look(0.0, *chain("ab"))
    assert ["a", "b"] == traces_in(window.look(0.5))


def test_what_comes_at_once_and_is_too_much_to_read_is_summed_up_each_second(window):
    assert [] == window.look(0.0, *chain(range(51)), chunk("dfsp-api-payer", range(3), status=400))
    assert [] == window.look(0.9, *chain(range(60, 160)), chunk("dfsp-api-payer", range(4), status=503))
    assert ["158 requests, 7 failed"] == window.look(1.0)
    assert ["70 requests, 0 failed"] == window.look(2.0, *chain(range(70)))


def test_what_comes_bit_by_bit_and_is_too_much_to_read_is_summed_up_with_what_waits_to_be_told(window):
    looks = [window.look(number / 10, *chain(range(number * 9, number * 9 + 9))) for number in range(12)]

    assert 50 == len([line for look in looks for line in look])
    # of 108
    assert ["58 requests, 0 failed"] == window.look(2.1)


def test_a_request_is_counted_once_though_its_services_write_at_different_times(window):
    payer, *others = chain(range(400))

    assert [] == window.look(0.0, *others)
    assert ["400 requests, 0 failed"] == window.look(1.0)
    assert [] == window.look(1.1, payer)
    assert [] == window.look(3.0)


def test_requests_that_came_in_further_down_are_counted_too(window):
    window.look(0.0, *chain(range(100)), *chain(range(300))[4:])

    assert ["400 requests, 0 failed"] == window.look(1.0)


def test_requests_to_services_beside_the_chain_are_counted_too(window):
    window.look(0.0, *chain(range(300)), chunk("signal-receiver", range(200), status=400))

    assert ["500 requests, 200 failed"] == window.look(1.0)


def test_where_it_is_quiet_again_requests_are_told_each_again(window):
    window.look(0.0, *chain(range(400)))
    window.look(1.0)
    assert ["51 requests, 0 failed"] == window.look(2.0, *chain(range(51)))
    assert ["50 requests, 0 failed"] == window.look(3.0, *chain(range(50)))
    window.look(3.1, *chain("a"))

    assert ["a"] == traces_in(window.look(3.6))


def test_what_was_counted_is_not_told_once_more_when_its_last_lines_come_after_the_count(window):
    payer, *others = chain("ab")
    window.look(0.0, *chain(range(400)))
    window.look(1.0)
    assert ["2 requests, 0 failed"] == window.look(2.0, *others)
    window.look(2.1, payer, chunk("dfsp-api-payer", "c"))

    assert ["c"] == traces_in(window.look(2.7))


def test_nothing_of_a_crowd_is_kept(window):
    for second in range(3):
        window.look(second, *chain(range(10_000)))

    assert {} == window._printer._traces._traces
    assert set() == window._printer._counter._trace_ids


def test_what_a_service_writes_itself_is_counted_and_nothing_that_looks_like_it(tmp_path):
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    logs = Logs("spsp-server", LogWriter(descriptor), human=False)
    looks_like = '"level":"info","service":"spsp-server","event":"request"'
    for status in (200, 400, 204, 503):
        error = ("E", looks_like) if status >= 400 else None
        line = logs.request_line(iso_time(0), f"t{status}", looks_like, "GET", looks_like, status, 0.1, error)
        logs.write([line], now=True)
    logs.info(looks_like)
    logs.error("request of another kind", cause=looks_like)
    os.close(descriptor)
    counter = RequestCounter(0.0, max_few=4)
    counter.add(LogChunk("spsp-server", path.read_bytes()))

    assert RequestCounts(4, 2, True, frozenset({"t200", "t400", "t204", "t503"})) == counter.end_period(1.0)
    assert RequestCounts(0, 0, True, frozenset()) == counter.end_period(2.0)
