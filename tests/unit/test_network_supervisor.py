"""What dies is started again, but not for ever."""

from network.supervisor import Budget, Supervisor


class Fragile:
    """Ends again whenever it is started, unless `heals` says otherwise."""

    name = "spsp-server"
    exit_code = 1

    def __init__(self, *, heals=False):
        self.died = True
        self.starts = 0
        self._heals = heals

    def last_lines(self, count=12):
        return ["Traceback", "boom"]

    def start(self):
        self.starts += 1
        self.died = not self._heals


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def watch(one, seconds):
    told, clock = [], Clock()
    supervisor = Supervisor([one], told.append, clock=clock)
    for _ in range(seconds * 10):
        supervisor.look()
        clock.now += 0.1
    return told


def test_a_service_that_ended_is_told_of_and_started_again_after_a_second():
    one = Fragile(heals=True)

    assert [
        "spsp-server ended by itself with exit code 1; its last lines:",
        "  Traceback",
        "  boom",
    ] == watch(one, 1)
    assert 0 == one.starts
    assert "spsp-server is started again" == watch(one, 2)[-1]
    assert 1 == one.starts


def test_a_service_that_keeps_ending_is_given_up_after_five_times():
    one = Fragile()
    told = watch(one, 60)

    assert 5 == one.starts
    assert "spsp-server ended more than 5 times within a minute: it is not started again" == told[-1]


def test_a_failing_restart_is_told():
    class Unstartable(Fragile):
        def start(self):
            super().start()
            raise OSError("no more processes")

    assert "spsp-server: no more processes" in watch(Unstartable(), 3)


def test_restarts_older_than_a_minute_count_no_more():
    budget = Budget(most=5, period_seconds=60)

    assert [True] * 5 == [budget.spend(now) for now in range(5)]
    assert not budget.spend(59.9)
    assert budget.spend(60)
    assert not budget.spend(60.5)
