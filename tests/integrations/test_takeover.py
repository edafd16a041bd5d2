"""A new process takes over the lanes of one that was killed on the same machine."""

import os
import subprocess

from integrations.delivery.process_identity import ProcessIdentity, _start_time, this_process
from integrations.delivery.queue import LaneQueue


def other_process() -> tuple[subprocess.Popen, ProcessIdentity]:
    child = subprocess.Popen(["sleep", "600"])
    machine = this_process().machine
    return child, ProcessIdentity(machine, f"{machine}{child.pid}:{_start_time(child.pid)}")


async def test_lanes_of_a_killed_process_do_not_wait_for_their_lease(start, hook):
    api = await start(deliveries_at_once=0)
    id_ = await api.enabled(hook.url)
    await api.signal()
    child, identity = other_process()
    claimed = await LaneQueue(api.dispatcher.queue._database, identity).claim(10, [])
    while_alive = await api.dispatcher.queue.release_lanes_of_dead_processes()
    await api.sql.execute("UPDATE lane SET due = 'infinity' WHERE is_held")  # a lease that does not end
    child.kill()
    child.wait()
    successor = await start()
    log = await successor.done(id_)

    assert (2, 0) == (len(claimed), while_alive)
    assert ["DELIVERED"] * 3 == [each["state"] for each in log]


def test_a_process_is_dead_if_it_has_ended_or_its_id_belongs_to_a_later_one():
    own = this_process()
    child, identity = other_process()
    alive = own.is_dead(identity.text)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    as_zombie = own.is_dead(identity.text)
    child.wait()

    assert (False, True, True) == (alive, as_zombie, own.is_dead(identity.text))
    assert own.is_dead(f"{own.machine}{os.getpid()}:1")


def test_a_process_is_not_called_dead_on_a_guess():
    own = this_process()
    elsewhere = ProcessIdentity("", "")

    assert not own.is_dead(own.text)
    assert not own.is_dead("")
    assert not own.is_dead(f"{own.machine}nonsense")
    assert not own.is_dead("0123456789abcdef:1:1")
    assert not elsewhere.is_dead("1:1")
    assert not own.is_dead(f"{own.machine}1:{_start_time(1)}")
