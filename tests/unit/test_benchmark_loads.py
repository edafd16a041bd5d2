"""Load generators and options: a round counts only if everything was as expected."""

import asyncio
import json

import pytest

from benchmarks import options, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.openloop import (
    OpenLoopConnection,
    OpenLoopGenerator,
    ReservationRequests,
    Tally,
    parse_status,
)
from benchmarks.overload import check as check_overload
from benchmarks.rounds import Side, check
from benchmarks.wrk import WrkLoad

COMMANDS = ("run", "growth", "overload")


def result(**changed):
    printed = {
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
    return wrk.parse("Running 2s test\n" + json.dumps(printed | changed) + "\n")


def side(workload):
    return Side(workload, None, WrkLoad(workload, 10))


# wrk


def test_the_result_of_wrk_is_the_last_line_that_it_prints():
    found = result()

    assert (100, 50.0, 100) == (found.answered, found.per_second, found.quotes)


@pytest.mark.parametrize("output", ["", "unable to connect", '{"sent": 1}', "[]"])
def test_output_without_a_result_ends_the_run(output):
    with pytest.raises(BenchmarkError, match="no result"):
        wrk.parse(output)


def test_a_load_that_went_as_expected_has_no_fault():
    assert [] == wrk.faults(result(), "warm", 1)
    assert [] == wrk.faults(result(refused=50, answers={"200": 50, "400": 50}), "refuse", 1)
    assert [] == wrk.faults(result(answers={"reserve 200": 50, "pay 200": 50}), "pay", 1)


@pytest.mark.parametrize(
    ("workload", "changed", "fault"),
    [
        ("warm", {"refused": 3}, "3 responses with status 400 or more"),
        ("warm", {"lost": {"timeout": 2}}, "2 timeout errors"),
        ("warm", {"sent": 0, "answered": 0}, "nothing was answered"),
        ("warm", {"sent": 109}, "109 requests were sent and 100 answered"),
        ("warm", {"sent": 99}, "99 requests were sent and 100 answered"),
        ("refuse", {"answers": {"200": 50, "400": 49, "503": 1}}, "1 responses 503"),
        ("pay", {"answers": {"reserve 200": 50, "pay 200": 49, "pay 410": 1}}, "1 responses pay 410"),
    ],
)
def test_every_unexpected_count_is_a_fault(workload, changed, fault):
    assert [fault] == wrk.faults(result(**changed), workload, 8)


def test_half_of_the_refuse_workload_must_be_refused():
    answers = {"200": 70, "400": 30}

    assert ["half of the responses should have status 400: {'200': 70, '400': 30}"] == wrk.faults(
        result(answers=answers), "refuse", 8
    )


def test_only_reservations_count_as_quotes():
    assert 50 == result(answers={"reserve 200": 50, "pay 200": 40}).quotes
    assert 60 == result(answers={"200": 60, "400": 40}).quotes


# the table


@pytest.mark.parametrize("grown", [100, 101, 108])
def test_a_round_counts_if_there_is_a_row_for_each_200_and_at_most_for_each_request_in_flight(grown):
    check(side("warm"), result(), 8, grown)


@pytest.mark.parametrize("grown", [99, 109])
def test_a_round_with_too_few_or_too_many_rows_does_not_count(grown):
    with pytest.raises(BenchmarkError, match=f"the table grew by {grown} for 100 responses with status 200"):
        check(side("warm"), result(), 8, grown)


def test_the_look_up_workload_must_not_add_rows():
    check(side("look-up"), result(), 8, 0)

    with pytest.raises(BenchmarkError, match="the table grew by 1 for 0 responses with status 200"):
        check(side("look-up"), result(), 8, 1)


# the open loop


def test_a_response_has_a_status_once_it_is_complete():
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 2\r\n"

    assert [None, None, None, 503] == [
        parse_status(received) for received in (b"HTT", head, head + b"\r\n{", head + b"\r\n{}")
    ]


def test_each_request_of_the_open_loop_has_its_own_key_and_the_right_length():
    requests = ReservationRequests("127.0.0.1:1")
    heads, bodies = zip(*(requests.next().split(b"\r\n\r\n") for _ in range(3)), strict=True)

    assert 3 == len({line for head in heads for line in head.split(b"\r\n") if line.startswith(b"Idem")})
    assert all(
        f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        for head, body in zip(heads, bodies, strict=True)
    )
    assert ["30000001", "30000002", "30000003"] == [json.loads(body)["identifier"] for body in bodies]


def test_goodput_is_the_number_of_200s_in_time_per_second():
    tally = Tally(seconds=[0.1] * 99 + [0.5], good_in_time=80)

    found = tally.as_json(10)

    assert (8.0, 100.0) == (found["goodput"], found["p50_ms"])
    assert 100.0 < found["p99_ms"] <= 500.0


@pytest.mark.parametrize(("at", "counted"), [(0.5, 0), (1.5, 1), (5.9, 1), (6.1, 0)])
def test_goodput_counts_responses_after_the_first_second_and_before_the_end_only(at, counted, monkeypatch):
    generator = OpenLoopGenerator("http://127.0.0.1:1", 0.0, 5.0)
    monkeypatch.setattr("benchmarks.openloop.time.monotonic", lambda: 100.0)
    asyncio.run(generator.run())
    monkeypatch.setattr("benchmarks.openloop.time.monotonic", lambda: 100.0 + at)
    connection = OpenLoopConnection(generator._answered)
    connection.due = 100.0

    generator._answered(connection, 200)

    assert (counted, {"200": 1, "unanswered": 0}) == (generator.tally.good_in_time, generator.tally.counts)


OVERLOADED = {"statuses": {"200": 10, "503": 5, "504": 1, "lost": 0}, "sent": 16, "max_late_ms": 3.0}


def test_an_overloaded_service_may_answer_503_and_504():
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
def test_any_other_result_of_an_overloaded_service_ends_the_run(changed, grown, fault):
    with pytest.raises(BenchmarkError, match=fault):
        check_overload({**OVERLOADED, **changed}, grown)


# options


def test_an_empty_option_counts_as_not_given(tmp_path):
    parsed = options.parse(["run", "--workloads=", "--rounds=", f"--data={tmp_path}"], COMMANDS)

    assert (options.WORKLOADS, options.ROUNDS, options.SECONDS) == (
        parsed.workloads,
        parsed.rounds,
        parsed.seconds,
    )
    assert options.PUBLISHED.resolve() == parsed.text_folder
    assert 5 == options.parse(["overload", f"--data={tmp_path}"], COMMANDS).rounds


@pytest.mark.parametrize(
    "less", ["--workloads=warm", "--connections=1", "--rounds=1", "--quick=1", "--rows=0"]
)
def test_only_the_results_of_a_whole_run_are_published(less, tmp_path):
    parsed = options.parse(["run", less, f"--data={tmp_path}"], COMMANDS)

    assert tmp_path / "bench-results" == parsed.text_folder == parsed.json_folder


def test_a_quick_run_is_short_except_for_given_options():
    parsed = options.parse(["run", "--quick=1", "--seconds=7", "--connections=8,1,8"], COMMANDS)

    assert (options.QUICK_ROUNDS, 7, (8, 1)) == (parsed.rounds, parsed.seconds, parsed.connections)


@pytest.mark.parametrize("wrong", ["--workloads=warm,hot", "--connections=0", "--seconds=1e3", "--rounds=٣"])
def test_a_wrong_option_is_refused_by_name(wrong, capsys):
    with pytest.raises(SystemExit):
        options.parse(["run", wrong], COMMANDS)

    assert wrong.split("=")[0] in capsys.readouterr().err
