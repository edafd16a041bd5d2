"""`make run` prints a line for each request, or counts them."""

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


def test_a_request_is_printed_once_with_its_first_services_line_when_its_trace_is_quiet():
    requests = TraceBuffer()
    requests.add([record("dfsp-api", at=1.009, ms=2), record("dfsp-api-payer", at=1.01, ms=9)], 0.0)
    assert [] == requests.take(0.4)
    assert ["dfsp-api-payer"] == [one.service for one in requests.take(0.5)]
    requests.add([record("spsp-server", at=1.011, ms=5)], 0.6)
    assert [] == requests.take(2.0)


def test_each_request_with_a_repeated_trace_id_is_printed():
    requests = TraceBuffer()
    requests.add([record("dfsp-api-payer", at=at) for at in (1, 2)] + [record(at=1.0, ms=0.5)], 0.0)
    assert 2 == len(requests.take(1.0))
    requests.add([record("dfsp-api-payer", at=3)], 1.0)
    assert 1 == len(requests.take(2.0))


def test_a_request_that_enters_at_a_later_hop_is_printed_and_other_events_are_not():
    requests = TraceBuffer(ignored=["demo"])
    requests.add([record("spsp-server"), record(trace="demo"), record(trace="e", event="started")], 0.0)

    assert ["spsp-server"] == [one.service for one in requests.take(1.0)]


def test_at_most_5_000_traces_are_kept_in_memory():
    requests = TraceBuffer()
    requests.add([record(trace=str(number)) for number in range(7_000)], 0.0)

    assert 2_000 == len(requests.take(0.1))
    assert 5_000 == len(requests._traces)


class PrintedLines:
    """Passes log chunks to a printer, and returns the lines that it prints."""

    def __init__(self):
        self._stream = io.StringIO()
        self._printer = RequestPrinter(Terminal(self._stream), wall_clock=lambda: 0.0, ignored=["demo"])

    def show(self, now, *chunks):
        """Show chunks; return the lines that were printed, without their time of day."""
        before = self._stream.tell()
        self._printer.show(chunks, now)
        return [line[14:] for line in self._stream.getvalue()[before:].splitlines()]


@pytest.fixture
def printed():
    return PrintedLines()


def chunk(service, traces, **fields):
    return LogChunk(
        service, "".join(entry(service, trace=str(trace), **fields) + "\n" for trace in traces).encode()
    )


def chain(traces, **fields):
    return [chunk(service, traces, **fields) for service in CHAIN]


def traces_in(lines):
    return [line.split()[-1] for line in lines]


def test_a_few_requests_are_printed_one_by_one(printed):
    assert [] == printed.show(0.0, *chain("ab"))
    assert ["a", "b"] == traces_in(printed.show(0.5))


def test_many_requests_at_once_are_counted_each_second(printed):
    assert [] == printed.show(0.0, *chain(range(51)), chunk("dfsp-api-payer", range(3), status=400))
    assert [] == printed.show(0.9, *chain(range(60, 160)), chunk("dfsp-api-payer", range(4), status=503))
    assert ["158 requests, 7 failed"] == printed.show(1.0)
    assert ["70 requests, 0 failed"] == printed.show(2.0, *chain(range(70)))


def test_after_50_lines_in_a_second_the_waiting_requests_are_counted_with_the_new_ones(printed):
    batches = [printed.show(number / 10, *chain(range(number * 9, number * 9 + 9))) for number in range(12)]

    assert 50 == len([line for batch in batches for line in batch])
    # 108 in all
    assert ["58 requests, 0 failed"] == printed.show(2.1)


def test_a_request_is_counted_once_although_its_services_write_at_different_times(printed):
    payer, *others = chain(range(400))

    assert [] == printed.show(0.0, *others)
    assert ["400 requests, 0 failed"] == printed.show(1.0)
    assert [] == printed.show(1.1, payer)
    assert [] == printed.show(3.0)


def test_requests_that_enter_at_a_later_hop_are_counted(printed):
    printed.show(0.0, *chain(range(100)), *chain(range(300))[4:])

    assert ["400 requests, 0 failed"] == printed.show(1.0)


def test_requests_to_services_off_the_chain_are_counted(printed):
    printed.show(0.0, *chain(range(300)), chunk("signal-receiver", range(200), status=400))

    assert ["500 requests, 200 failed"] == printed.show(1.0)


def test_after_a_period_with_few_requests_they_are_printed_one_by_one_again(printed):
    printed.show(0.0, *chain(range(400)))
    printed.show(1.0)
    assert ["51 requests, 0 failed"] == printed.show(2.0, *chain(range(51)))
    assert ["50 requests, 0 failed"] == printed.show(3.0, *chain(range(50)))
    printed.show(3.1, *chain("a"))

    assert ["a"] == traces_in(printed.show(3.6))


def test_a_counted_request_is_not_printed_when_more_of_its_lines_appear(printed):
    payer, *others = chain("ab")
    printed.show(0.0, *chain(range(400)))
    printed.show(1.0)
    assert ["2 requests, 0 failed"] == printed.show(2.0, *others)
    printed.show(2.1, payer, chunk("dfsp-api-payer", "c"))

    assert ["c"] == traces_in(printed.show(2.7))


def failed_chain(traces):
    return chain(traces, status=504, id="UpstreamTimeoutError")


def test_of_many_failed_requests_five_are_printed_in_ten_seconds_and_the_others_are_counted(printed):
    """A supervisor's line stays visible: an outage prints six lines in ten seconds."""
    lines = [
        line
        for second in range(10)
        for line in printed.show(second, *failed_chain([f"{second}a", f"{second}b"]))
    ]
    assert ["0a", "0b", "1a", "1b", "2a"] == [line.split()[-2] for line in lines]

    assert ["15 more requests failed in 10 s: 15 of them 504 UpstreamTimeoutError"] == [
        line for tenth in range(105, 125) for line in printed.show(tenth / 10)
    ]


def test_during_an_outage_successful_requests_are_still_printed(printed):
    printed.show(0.0, *failed_chain(range(20)))
    printed.show(0.5)
    printed.show(1.0, *chain(["good"]))

    assert ["good"] == traces_in(printed.show(2.0))


def test_counted_requests_use_no_memory(printed):
    for second in range(3):
        printed.show(second, *chain(range(1_000)))

    assert {} == printed._printer._traces._traces
    assert set() == printed._printer._counter._trace_ids


def test_real_log_lines_are_counted_and_similar_texts_in_their_fields_are_not(tmp_path):
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    logs = Logs("spsp-server", LogWriter(descriptor), human=False)
    looks_like = '"level":"info","service":"spsp-server","event":"request"'
    for status in (200, 400, 204, 503):
        error = ("E", looks_like) if status >= 400 else None
        line = logs.access_line(iso_time(0), f"t{status}", looks_like, "GET", looks_like, status, 0.1, error)
        logs.write([line], now=True)
    logs.info(looks_like)
    logs.error("request of another kind", cause=looks_like)
    os.close(descriptor)
    counter = RequestCounter(0.0, max_few=4)
    counter.add(LogChunk("spsp-server", path.read_bytes()))

    assert RequestCounts(4, 2, True, frozenset({"t200", "t400", "t204", "t503"})) == counter.end_period(1.0)
    assert RequestCounts(0, 0, True, frozenset()) == counter.end_period(2.0)
