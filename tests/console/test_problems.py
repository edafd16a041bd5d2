"""Each rule finds its problem, and finds nothing if there is none."""

import pytest

from console.collectors.look import Health
from console.collectors.problems import Own, Problem, ProblemLog, Severity, find_problems
from console.collectors.service_record import ServiceRecord
from support.samples import REPLICA, look, record

WELL = Own()
NOW = 1_000.0


def problems(*records: ServiceRecord, own: Own = WELL, usual=None) -> list[Problem]:
    return list(find_problems(records, own, usual or {}, NOW))


def titles(*records: ServiceRecord, own: Own = WELL, usual=None) -> list[str]:
    return [each.title for each in problems(*records, own=own, usual=usual)]


def one_look(health: Health, *reasons: str) -> ServiceRecord:
    made = ServiceRecord("dfsp-api", REPLICA)
    made.add([look(None, health=health, reasons=reasons)])
    return made


def errors(count: int, status: str, error: str = "SomeError", origin: str = "own") -> str:
    labels = f'method="GET",route="/",status="{status}",error="{error}",origin="{origin}"'
    return f"request_errors_total{{{labels}}} {count}\n"


def test_where_all_is_well_nothing_is_wrong():
    assert [] == titles(record(errors(0, "503"), errors(0, "503")))


def test_a_service_that_was_not_looked_at_yet_is_no_problem():
    assert [] == titles(ServiceRecord("dfsp-api", REPLICA))


@pytest.mark.parametrize(
    ("health", "reason", "title"),
    [
        (Health.AWAY, "connection refused", "dfsp-api is away"),
        (Health.FROZEN, "no response within 1.5 s", "dfsp-api is frozen"),
        (Health.NOT_READY, "a writable directory file", "dfsp-api is not ready"),
        (Health.NOT_READY, "database", "The Postgres of dfsp-api is away"),
        (Health.STOPPING, "", "dfsp-api is shutting down"),
        (Health.READY, "the fee schedule is refused", "dfsp-api is ready, with a warning"),
    ],
)
def test_the_state_of_a_service_is_a_problem_with_its_reason(health, reason, title):
    (problem,) = problems(one_look(health, reason))

    assert title == problem.title
    assert reason in problem.detail


def test_a_replica_is_named_where_there_are_several():
    made = ServiceRecord("dfsp-api", REPLICA)
    made.add([look(""), look(None, replica="http://10.0.0.2", health=Health.FROZEN)])

    assert ["dfsp-api at http://10.0.0.2 is frozen"] == titles(made)


def test_an_error_of_the_service_itself_is_a_problem():
    (problem,) = problems(record(errors(0, "503"), errors(3, "503")))

    assert "dfsp-api answers SomeError" == problem.title
    assert Severity.DEGRADED is problem.severity


def test_an_error_that_the_next_hop_raised_is_no_problem_of_this_one():
    made = record(errors(0, "503", origin="upstream"), errors(50, "503", origin="upstream"))

    assert [] == titles(made)


def test_one_or_two_server_errors_are_no_problem():
    assert [] == titles(record(errors(0, "503"), errors(2, "503")))


@pytest.mark.parametrize(("usual_per_second", "is_rising"), [(0.0, True), (0.5, True), (2.0, False)])
def test_a_refusal_is_a_problem_if_it_is_more_frequent_than_usual(usual_per_second, is_rising):
    made = record(errors(0, "422"), errors(30, "422"), every=15.0)
    found = titles(made, usual={("dfsp-api", "SomeError"): usual_per_second})

    assert (["SomeError is rising at dfsp-api"] if is_rising else []) == found


def test_a_rise_clears_when_the_errors_stop():
    made = record(*[errors(0, "503"), errors(30, "503"), errors(30, "503"), errors(30, "503")], every=15.0)

    assert [] == titles(made)


def test_rejected_requests_and_refused_connections_are_problems():
    made = record(
        "",
        'requests_rejected_total{reason="queue_full"} 7\nconnections_refused_total{reason="limit"} 2\n'
        "service_overloaded 1\n",
    )

    assert [
        "dfsp-api rejects requests",
        "dfsp-api refuses connections",
        "dfsp-api is overloaded",
    ] == titles(made)


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        ("disk_full", "The Postgres of dfsp-api has a full disk"),
        ("timeout", "Statements of dfsp-api do not end in time"),
        ("unavailable", "Statements of dfsp-api find no Postgres"),
    ],
)
def test_failed_statements_are_a_problem(reason, title):
    made = record("", f'database_errors_total{{reason="{reason}"}} 4\n')

    assert [title] == titles(made)


def test_statements_that_are_tried_again_are_no_problem():
    assert [] == titles(record("", 'database_errors_total{reason="conflict"} 4\n'))


def test_a_paused_endpoint_and_a_backlog_are_problems_that_lead_to_the_webhooks():
    made = record(
        'integrations{state="paused"} 2\nwebhook_oldest_waiting_seconds{kind="signal"} 45\nwebhook_events_waiting 9\n',
        name="integrations",
    )
    found = problems(made)

    assert ["2 endpoints are paused", "Webhooks have a backlog"] == [each.title for each in found]
    assert {"/webhooks"} == {each.link for each in found}


def test_lifecycle_events_that_wait_are_no_backlog():
    assert [] == titles(record('webhook_oldest_waiting_seconds{kind="lifecycle"} 9000\n'))


def test_retention_that_is_behind_is_a_notice():
    (problem,) = problems(record("retention_lag_seconds 180000\n"))

    assert ("Retention of dfsp-api is 50 hours behind", Severity.NOTICE) == (problem.title, problem.severity)


@pytest.mark.parametrize(
    ("own", "title"),
    [
        (Own(["database"]), "The console's own Postgres is away"),
        (Own(free_bytes=100 << 20, disk_bytes=10 << 30), "The disk of the console's log is almost full"),
        (Own(free_bytes=0, disk_bytes=10 << 30), "The disk of the console's log is full"),
    ],
)
def test_the_console_sees_what_it_lacks_itself(own, title):
    assert [title] == titles(own=own)


@pytest.mark.parametrize(("seconds_ago", "is_shown"), [(1.0, True), (16.0, False)])
def test_a_restart_stays_on_the_page_for_a_moment(seconds_ago, is_shown):
    made = ServiceRecord("dfsp-api", REPLICA)
    made.add([look("process_start_time_seconds 1\n", NOW - seconds_ago - 2)])
    made.add([look("process_start_time_seconds 2\n", NOW - seconds_ago)])
    found = titles(made, own=Own(database_restarted_at=NOW - seconds_ago))

    assert (
        ["The console's own Postgres was restarted", "dfsp-api was restarted"] if is_shown else []
    ) == found


def test_a_process_that_goes_on_was_not_restarted():
    assert [] == titles(record("process_start_time_seconds 1\n", "process_start_time_seconds 1\n"))


@pytest.mark.parametrize(("free", "disk"), [(164 << 20, 200 << 20), (5 << 30, 1 << 40), (None, None)])
def test_a_disk_with_room_is_no_problem(free, disk):
    assert [] == titles(own=Own(free_bytes=free, disk_bytes=disk))


def test_a_full_disk_is_named_even_where_the_service_is_not_ready():
    made = ServiceRecord("dfsp-api", REPLICA)
    failures = (
        'database_errors_total{{reason="disk_full"}} {0}\ndatabase_errors_total{{reason="unavailable"}} {0}\n'
    )
    made.add([look(failures.format(0), 0.0)])
    made.add([look(failures.format(5), 10.0, health=Health.NOT_READY, reasons=["database"])])

    assert ["The Postgres of dfsp-api is away", "The Postgres of dfsp-api has a full disk"] == titles(made)


def test_problems_keep_their_beginning_and_clear_by_themselves():
    log = ProblemLog()
    frozen = problems(one_look(Health.FROZEN))
    log.update(frozen, 100.0)
    log.update(frozen, 102.0)
    (present,) = log.present
    log.update([], 104.0)

    assert 100.0 == present.since
    assert [] == log.present
    assert [(100.0, 104.0)] == [(each.since, each.until) for each in log.cleared]


def test_the_worst_problems_come_first_and_of_those_the_oldest():
    log = ProblemLog()
    notice, down, later = (
        Problem(key, severity, key, "")
        for key, severity in (("n", Severity.NOTICE), ("d", Severity.DOWN), ("l", Severity.DOWN))
    )
    log.update([notice, down], 1.0)
    log.update([later, notice, down], 2.0)

    assert ["d", "l", "n"] == [each.problem.key for each in log.present]
