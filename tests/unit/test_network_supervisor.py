"""Processes that end or hang are restarted, for as long as it takes."""

import threading

import pytest

from network.supervisor import Backoff, ProcessSupervisor, RestartError, SupervisedProcess, Supervisor


class SteppedClock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeProcess:
    """Runs when started at `works_from` or later; ends at once when started before."""

    name = "spsp-server"
    exit_code = 1
    pid = None
    uptime_seconds = None

    def __init__(self, clock, *, works_from=0.0, lines=("Traceback", "boom")):
        self.clock = clock
        self.died = True
        self.answers = True
        self.starts = []
        self.kills = []
        self.stops = []
        self._works_from = works_from
        self._lines = list(lines)

    def last_lines(self, count=12):
        return self._lines[-count:]

    def start(self):
        self.starts.append(round(self.clock.now, 1))
        self.died = self.clock.now < self._works_from

    def stop(self):
        self.stops.append(round(self.clock.now, 1))

    def kill(self):
        self.kills.append(round(self.clock.now, 1))


class Watch:
    """A supervisor with a stepped clock, and its reports."""

    def __init__(self, process, clock, *, has_health_check=False):
        self.reported = []
        self._clock = clock
        answers = (lambda: process.answers) if has_health_check else None
        self._supervisor = ProcessSupervisor(
            SupervisedProcess(process, answers), self.reported.append, clock=clock
        )

    def request_restart(self):
        return self._supervisor.request_restart()

    def run(self, until):
        while self._clock.now < until:
            self._supervisor.look()
            self._clock.now += 0.1
        return self.reported


@pytest.fixture
def clock():
    return SteppedClock()


def test_a_process_that_ended_is_reported_with_its_last_lines_and_restarted_after_a_second(clock):
    process = FakeProcess(clock)
    watch = Watch(process, clock)

    assert [
        "spsp-server ended with exit code 1; its last log lines:",
        "  Traceback",
        "  boom",
        "spsp-server will be restarted in 1 s",
    ] == watch.run(until=0.9)
    assert ["restarting spsp-server (attempt 1)", "spsp-server is running again"] == watch.run(until=2)[4:]
    assert [1.0] == pytest.approx(process.starts, abs=0.2)


def test_a_process_whose_restarts_fail_is_restarted_for_ever_with_a_delay_of_at_most_30_s(clock):
    process = FakeProcess(clock, works_from=float("inf"), lines=[])
    watch = Watch(process, clock)
    watch.run(until=3_600)
    delays = [later - earlier for earlier, later in zip(process.starts, process.starts[1:], strict=False)]

    assert [1, 2, 2, 3] == pytest.approx(delays[:4], abs=0.3)
    assert 30 == pytest.approx(max(delays), abs=0.3)
    assert process.starts[-1] > 3_560
    assert "spsp-server will be restarted in 30 s" in watch.reported[-3:]


class SlowToFail(FakeProcess):
    """Needs some seconds until it ends, or serves, after each start."""

    def __init__(self, clock, *, works_from, seconds):
        super().__init__(clock, works_from=works_from)
        self._seconds = seconds

    @property
    def died(self):
        is_fault = not self.starts or self.starts[-1] < self._works_from
        return is_fault and (not self.starts or self.clock.now >= self.starts[-1] + self._seconds)

    @died.setter
    def died(self, value):
        pass

    @property
    def serves_at(self):
        return self.starts[-1] + self._seconds


@pytest.mark.parametrize(("start_seconds", "longest_fault"), [(0.1, 60), (1.5, 60), (3.0, 30)])
def test_a_process_is_back_within_ten_seconds_of_the_end_of_its_fault(start_seconds, longest_fault):
    for seconds in range(1, longest_fault):
        clock = SteppedClock()
        process = SlowToFail(clock, works_from=float(seconds), seconds=start_seconds)
        Watch(process, clock).run(until=seconds + 30)

        assert seconds <= process.starts[-1]
        assert process.serves_at <= seconds + 10, seconds


def test_a_restart_that_raises_is_reported_with_the_time_of_the_next_attempt_and_repeated(clock):
    class FullDisk(FakeProcess):
        def start(self):
            super().start()
            self.died = False  # as of a Postgres that was ended because it did not become ready
            if len(self.starts) < 3:
                raise RuntimeError("Postgres does not start:\nPANIC: No space left on device")

    process = FullDisk(clock, lines=["PANIC: No space left on device"])
    reported = Watch(process, clock).run(until=10)

    assert 3 == len(process.starts)
    assert [
        "spsp-server could not be restarted: Postgres does not start; its last log lines:",
        "  PANIC: No space left on device",
        "spsp-server will be restarted in 1 s",
    ] == reported[4:7]
    assert "spsp-server is running again" == reported[-1]


def test_a_process_that_has_run_for_ten_seconds_is_restarted_after_one_second_again(clock):
    process = FakeProcess(clock, works_from=8.0)
    watch = Watch(process, clock)
    watch.run(until=30)
    process.died = True

    assert "spsp-server will be restarted in 1 s" == watch.run(until=30.5)[-1]


def test_a_service_whose_health_check_is_not_answered_for_15_s_is_killed_and_restarted(clock):
    process = FakeProcess(clock, lines=[])
    process.died = False
    watch = Watch(process, clock, has_health_check=True)
    watch.run(until=10)
    process.answers = False
    watch.run(until=23)
    assert [] == process.kills
    watch.run(until=28)
    process.answers = True

    assert [25.0] == pytest.approx(process.kills, abs=2.1)
    assert "did not answer its health check for" in watch.reported[0]
    assert "restarting spsp-server (attempt 1)" in watch.reported
    assert "spsp-server is running again" == watch.run(until=40)[-1]


def test_a_machine_that_was_suspended_is_not_taken_for_a_silent_service(clock):
    """One failed probe is not enough, whatever time has passed."""
    process = FakeProcess(clock, lines=[])
    process.died = False
    watch = Watch(process, clock, has_health_check=True)
    watch.run(until=10)
    clock.now += 3_600
    process.answers = False
    watch.run(until=clock.now + 2)
    process.answers = True
    watch.run(until=clock.now + 30)

    assert [] == process.kills


def test_nothing_is_restarted_while_the_network_stops(clock):
    process = FakeProcess(clock)
    reported = []
    supervisor = ProcessSupervisor(
        SupervisedProcess(process), reported.append, clock=clock, is_stopping=lambda: True
    )
    for _ in range(50):
        supervisor.look()
        clock.now += 0.1

    assert [] == process.starts


def test_a_restarted_service_has_a_minute_to_answer_for_the_first_time(clock):
    process = FakeProcess(clock, lines=[])
    process.answers = False
    watch = Watch(process, clock, has_health_check=True)
    watch.run(until=55)
    assert [] == process.kills
    watch.run(until=65)

    assert 1 == len(process.kills)


def test_a_slow_restart_delays_no_other(clock):
    """Each process has its own thread: one of them starts for as long as the test lasts."""
    release, restarted = threading.Event(), threading.Event()

    class Slow(FakeProcess):
        name = "postgres"

        def start(self):
            self.died = False
            release.wait(60)

    class Quick(FakeProcess):
        def start(self):
            self.died = False
            restarted.set()

    supervisor = Supervisor(
        [SupervisedProcess(Slow(clock)), SupervisedProcess(Quick(clock))], lambda line: None
    )
    supervisor.start()
    try:
        assert restarted.wait(30)
    finally:
        release.set()
        supervisor.stop()


def test_a_backoff_that_is_reset_starts_at_one_second():
    backoff = Backoff()

    assert [1, 1, 2] == [backoff.next_delay_seconds() for _ in range(3)]
    backoff.reset()
    assert 1 == backoff.next_delay_seconds()


def test_a_requested_restart_stops_and_starts_the_process_at_once(clock):
    process = FakeProcess(clock)
    process.died = False
    watch = Watch(process, clock)
    watch.run(until=1)
    requested = watch.request_restart()
    again = watch.request_restart()

    assert ["restarting spsp-server, as requested", "spsp-server is running again"] == watch.run(until=2)
    assert requested is again
    assert requested.result(0) is None
    assert process.stops == process.starts == pytest.approx([1.0], abs=0.2)


def test_a_requested_restart_that_fails_says_so_and_is_tried_again(clock):
    class Broken(FakeProcess):
        def start(self):
            super().start()
            if len(self.starts) < 2:
                raise OSError("no")

    process = Broken(clock, lines=[])
    process.died = False
    watch = Watch(process, clock)
    requested = watch.request_restart()
    watch.run(until=3)

    with pytest.raises(RestartError, match="spsp-server does not start"):
        requested.result(0)
    assert 2 == len(process.starts)


def test_an_unknown_name_is_refused_with_the_names_there_are(clock):
    supervisor = Supervisor([SupervisedProcess(FakeProcess(clock))], print)

    with pytest.raises(RestartError, match="there is no service 'x'; SERVICE is one of spsp-server"):
        supervisor.restart("x")


def test_a_restart_that_is_requested_at_the_end_is_refused(clock):
    process = FakeProcess(clock)
    supervisor = Supervisor([SupervisedProcess(process)], print)
    failures = []

    def restart():
        try:
            supervisor.restart("spsp-server", seconds=60)
        except RestartError as error:
            failures.append(str(error))

    thread = threading.Thread(target=restart)
    thread.start()
    while not supervisor._supervisors["spsp-server"]._requested:
        pass
    supervisor.stop()
    thread.join(60)

    assert ["`make run` stops"] == failures
    assert [] == process.starts
