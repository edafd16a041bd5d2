"""What the benchmarks send and count: only what went exactly as expected is a result."""

import asyncio
import json

import pytest

from benchmarks import options, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.openloop import Connection, Generator, Requests, Tally, parse_answer
from benchmarks.overload import check as check_overload
from benchmarks.rounds import Side, check
from benchmarks.wrk import Load

COMMANDS = ("run", "growth", "overload")


def seen(**changed):
    as_printed = {
        "sent": 101,
        "answered": 100,
        "answers": {},
        "refused": 0,
        "lost": {"connect": 0, "read": 0, "write": 0, "timeout": 0},
        "duration_us": 2_000_000,
        "p50_us": 1_500,
        "p99_us": 3_000,
        "max_us": 4_000,
    }
    return wrk.parse("Running 2s test\n" + json.dumps(as_printed | changed) + "\n")


def side(workload):
    return Side(workload, None, Load(workload, 10))


# wrk


def test_what_wrk_saw_is_the_last_line_it_prints():
    found = seen()

    assert (100, 50.0, 100) == (found.answered, found.per_second, found.quotes)


@pytest.mark.parametrize("output", ["", "unable to connect", '{"sent": 1}', "[]"])
def test_output_without_a_result_is_no_result(output):
    with pytest.raises(BenchmarkError, match="no result"):
        wrk.parse(output)


def test_a_load_that_went_as_expected_has_no_fault():
    assert [] == wrk.faults(seen(), "warm", 1)
    assert [] == wrk.faults(seen(refused=50, answers={"200": 50, "400": 50}), "refuse", 1)
    assert [] == wrk.faults(seen(answers={"reserve 200": 50, "pay 200": 50}), "pay", 1)


@pytest.mark.parametrize(
    ("workload", "changed", "fault"),
    [
        ("warm", {"refused": 3}, "3 answers of 400 or more"),
        ("warm", {"lost": {"timeout": 2}}, "2 timeout errors"),
        ("warm", {"sent": 0, "answered": 0}, "nothing was answered"),
        ("warm", {"sent": 109}, "109 requests were sent and 100 answered"),
        ("warm", {"sent": 99}, "99 requests were sent and 100 answered"),
        ("refuse", {"answers": {"200": 50, "400": 49, "503": 1}}, "1 answers 503"),
        ("pay", {"answers": {"reserve 200": 50, "pay 200": 49, "pay 410": 1}}, "1 answers pay 410"),
    ],
)
def test_anything_but_the_expected_is_a_fault(workload, changed, fault):
    assert [fault] == wrk.faults(seen(**changed), workload, 8)


def test_as_many_are_refused_as_are_invalid():
    answers = {"200": 70, "400": 30}

    assert ["half of {'200': 70, '400': 30} should be 400"] == wrk.faults(seen(answers=answers), "refuse", 8)


def test_quotes_are_the_reservations_alone():
    assert 50 == seen(answers={"reserve 200": 50, "pay 200": 40}).quotes
    assert 60 == seen(answers={"200": 60, "400": 40}).quotes


# the table


@pytest.mark.parametrize("grown", [100, 101, 108])
def test_a_round_counts_where_each_200_is_a_row_and_no_more_than_were_under_way(grown):
    check(side("warm"), seen(), 8, grown)


@pytest.mark.parametrize("grown", [99, 109])
def test_a_round_whose_rows_are_not_its_quotes_does_not_count(grown):
    with pytest.raises(BenchmarkError, match=f"the table grew by {grown} for 100 answers of 200"):
        check(side("warm"), seen(), 8, grown)


def test_looking_up_leaves_nothing_in_the_table():
    check(side("look-up"), seen(), 8, 0)

    with pytest.raises(BenchmarkError, match="the table grew by 1 for 0 answers of 200"):
        check(side("look-up"), seen(), 8, 1)


# the open loop


def test_an_answer_is_read_once_it_is_whole():
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 2\r\n"

    assert [None, None, None, 503] == [
        parse_answer(received) for received in (b"HTT", head, head + b"\r\n{", head + b"\r\n{}")
    ]


def test_each_request_has_a_key_of_its_own_and_its_length():
    requests = Requests("127.0.0.1:1")
    heads, bodies = zip(*(requests.next().split(b"\r\n\r\n") for _ in range(3)), strict=True)

    assert 3 == len({line for head in heads for line in head.split(b"\r\n") if line.startswith(b"Idem")})
    assert all(
        f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        for head, body in zip(heads, bodies, strict=True)
    )
    assert ["30000001", "30000002", "30000003"] == [json.loads(body)["identifier"] for body in bodies]


def test_goodput_is_what_was_answered_in_time():
    tally = Tally(seconds=[0.1] * 99 + [0.5], good_in_time=80)

    found = tally.as_json(10)

    assert (8.0, 100.0) == (found["goodput"], found["p50_ms"])
    assert 100.0 < found["p99_ms"] <= 500.0


@pytest.mark.parametrize(("at", "counted"), [(0.5, 0), (1.5, 1), (5.9, 1), (6.1, 0)])
def test_only_what_is_answered_after_a_first_second_and_before_the_end_is_goodput(at, counted, monkeypatch):
    generator = Generator("http://127.0.0.1:1", 0.0, 5.0)
    monkeypatch.setattr("benchmarks.openloop.time.monotonic", lambda: 100.0)
    asyncio.run(generator.run())
    monkeypatch.setattr("benchmarks.openloop.time.monotonic", lambda: 100.0 + at)
    connection = Connection(generator._answered)
    connection.due = 100.0

    generator._answered(connection, 200)

    assert (counted, {"200": 1, "unanswered": 0}) == (generator.tally.good_in_time, generator.tally.counts)


OVERLOADED = {"statuses": {"200": 10, "503": 5, "504": 1, "lost": 0}, "sent": 16, "max_late_ms": 3.0}


def test_an_overloaded_service_may_refuse():
    check_overload(OVERLOADED, 11)


@pytest.mark.parametrize(
    ("changed", "grown", "fault"),
    [
        ({"statuses": {"200": 10, "lost": 2}}, 10, "2 lost"),
        ({"statuses": {"200": 10, "500": 1}}, 10, "1 500"),
        ({}, 9, "the table grew by 9 for 10 responses with status 200"),
        ({"max_late_ms": 900.0}, 10, "the load generator itself was 900 ms late"),
    ],
)
def test_an_overloaded_service_may_do_nothing_else(changed, grown, fault):
    with pytest.raises(BenchmarkError, match=fault):
        check_overload({**OVERLOADED, **changed}, grown)


# options


def test_what_make_leaves_empty_is_as_good_as_not_said(tmp_path):
    asked = options.parse(["run", "--workloads=", "--rounds=", f"--data={tmp_path}"], COMMANDS)

    assert (options.WORKLOADS, options.ROUNDS, options.SECONDS) == (
        asked.workloads,
        asked.rounds,
        asked.seconds,
    )
    assert options.PUBLISHED.resolve() == asked.text_folder
    assert 5 == options.parse(["overload", f"--data={tmp_path}"], COMMANDS).rounds


@pytest.mark.parametrize(
    "less", ["--workloads=warm", "--connections=1", "--rounds=1", "--quick=1", "--rows=0"]
)
def test_less_than_the_whole_is_not_published(less, tmp_path):
    asked = options.parse(["run", less, f"--data={tmp_path}"], COMMANDS)

    assert tmp_path / "bench-results" == asked.text_folder == asked.json_folder


def test_a_quick_run_is_short_but_for_what_is_said():
    asked = options.parse(["run", "--quick=1", "--seconds=7", "--connections=8,1,8"], COMMANDS)

    assert (options.QUICK_ROUNDS, 7, (8, 1)) == (asked.rounds, asked.seconds, asked.connections)


@pytest.mark.parametrize("wrong", ["--workloads=warm,hot", "--connections=0", "--seconds=1e3", "--rounds=٣"])
def test_what_cannot_be_run_is_refused_by_name(wrong, capsys):
    with pytest.raises(SystemExit):
        options.parse(["run", wrong], COMMANDS)

    assert wrong.split("=")[0] in capsys.readouterr().err
