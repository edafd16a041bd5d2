"""Callers authenticate by HTTP Basic against the users file (wire.md §3, §4)."""

import asyncio
import base64
import threading

import pytest

from chassis import users
from chassis.app import SERVICE
from chassis.auth import MAX_WRONG_A_MINUTE, REMEMBERED_SECONDS, Credentials
from chassis.errors import TooManyRequestsError, UnauthorizedError
from chassis.password_queue import MAX_PASSWORDS, PasswordQueue
from chassis.users import HASHER
from chassis.users_file import SampleCredentialsError, UsersFile
from support.client import is_error_object
from support.forwarders import FORWARDERS, LOOK_UP, SOURCE, ClientRequest, authorization
from support.internals import reload
from support.messages import OTHER, TEST
from support.scripted_server import scripted_server
from support.serving import reply
from support.settings import CHEAP_HASHER


@pytest.fixture
async def hop(start_hop, forwarder):
    """A hop of the test's own: it remembers which passwords were right and counts the wrong ones."""
    return await start_hop(forwarder)


@pytest.fixture
def forwarder() -> str:
    """One service: the rules are those of the pipeline that all services share."""
    return "spsp-server"


def encoded(data: bytes) -> str:
    return "Basic " + base64.b64encode(data).decode()


READY = ClientRequest("GET", "/health/ready")
WRONG = {
    "none": None,
    "empty": "",
    "the scheme alone": "Basic",
    "the scheme and a blank": "Basic ",
    "bad base64": "Basic dGVzdDoxMjM",
    "no base64": "Basic !!!!",
    "base64 for URLs": "Basic dGVzdDo-_w==",
    "base64 in two parts": "Basic dGVz dDoxMjM=",
    "no colon": encoded(b"test"),
    "no name": encoded(b":123"),
    "no password": encoded(b"test:"),
    "latin-1": encoded("tést:123".encode("latin-1")),
    "a control character": encoded(b"test:123\x00"),
    "a name without end": encoded(b"a" * 5_000 + b":123"),
    "a password without end": encoded(b"test:" + b"1" * 5_000),
    "a wrong password": encoded(b"test:1234"),
    "another's password": encoded(b"test:456"),
    "an unknown name": encoded(b"unknown:123"),
    "a name in another case": encoded(b"Test:123"),
    "a blank before the name": encoded(b" test:123"),
    "a newline behind": encoded(b"test:123\n"),
    "another scheme": "Bearer dGVzdDoxMjM=",
    "digest": 'Digest username="test"',
    "no scheme": "dGVzdDoxMjM=",
    "beyond ASCII": "Basic dGVzdDoxMjM=ü",
    "two in one": "Basic dGVzdDoxMjM=, Basic dGVzdDoxMjM=",
}


@pytest.mark.parametrize("forwarder", FORWARDERS)
async def test_missing_malformed_and_wrong_credentials_are_401(hop):
    for case, header in WRONG.items():
        for operation in [SOURCE, LOOK_UP]:
            answer = await hop.send(operation, Authorization=header)

            assert (401, "UnauthorizedError") == (answer.status, answer.id), case
            assert f'Basic realm="{hop.service}", charset="UTF-8"' == answer.headers["WWW-Authenticate"]
            assert is_error_object(answer)
            assert [] == hop.next_hop.seen + hop.directory.seen


async def test_two_authorization_headers_are_refused(hop):
    [answer] = await hop.send_bytes(
        hop.request_bytes(SOURCE).replace(b"Connection:", f"Authorization: {TEST}\r\nConnection:".encode())
    )

    assert answer.status in {400, 401}
    assert is_error_object(answer)
    assert [] == hop.next_hop.seen + hop.directory.seen


async def test_names_and_passwords_are_utf_8(start_hop, forwarder, tmp_path):
    users.add(tmp_path / "users", "жена", "пароль:ü 🔑")
    hop = await start_hop(forwarder, tmp_path / "users")

    answer = await hop.send(Authorization=authorization("жена:пароль:ü 🔑"))

    assert 200 == answer.status
    assert "жена" == hop.log.events[-1]["caller"]


async def test_names_and_passwords_match_in_every_unicode_form(start_hop, forwarder, tmp_path):
    """A telephone may write the letters of a name in another form than a computer (RFC 7617: NFC)."""
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    (tmp_path / "users").write_text(f"{decomposed}:{HASHER.hash(composed)}\n")
    hop = await start_hop(forwarder, tmp_path / "users")

    for name in (composed, decomposed):
        for password in (composed, decomposed):
            assert 200 == (await hop.send(Authorization=authorization(f"{name}:{password}"))).status
            assert composed == hop.log.events[-1]["caller"]


async def test_an_e_mail_address_matches_whatever_its_case(start_hop, forwarder, tmp_path):
    users.add(tmp_path / "users", "User@Example.com", "1")
    hop = await start_hop(forwarder, tmp_path / "users")

    assert 200 == (await hop.send(Authorization=authorization("uSER@example.COM:1"))).status
    assert "User@Example.com" == hop.log.events[-1]["caller"]


async def test_a_known_caller_is_not_hashed_again(hop, monkeypatch):
    await hop.send()
    monkeypatch.setattr(hop.app[SERVICE].credentials._queue, "check", None)

    assert 200 == (await hop.send()).status


class SlowHash:
    """Stands for the hashing of a password; it waits until the test lets it go on."""

    def __init__(self):
        self.go_on = threading.Event()
        self.passwords = []

    def __call__(self, hashed, password):
        self.passwords.append(password)
        self.go_on.wait(30)
        return hashed is not None and password in {"123", "456"}


@pytest.fixture
def slow_hash(monkeypatch):
    made = SlowHash()
    monkeypatch.setattr("chassis.password_queue._hash", made)
    yield made
    made.go_on.set()


async def test_equal_headers_at_once_are_hashed_once(hop, slow_hash):
    asked = [asyncio.create_task(hop.send()) for _ in range(50)]
    async with asyncio.timeout(60):
        while hop.app[SERVICE].monitor.in_flight < 50:
            await asyncio.sleep(0.01)
    slow_hash.go_on.set()

    assert {200} == {(await each).status for each in asked}
    assert ["123"] == slow_hash.passwords


async def test_a_hundred_wrong_passwords_a_minute_lock_a_name_for_an_address(hop):
    assert 200 == (await hop.send()).status
    for number in range(MAX_WRONG_A_MINUTE):
        assert 401 == (await hop.send(Authorization=authorization(f"test:wrong{number}"))).status

    refused = await hop.send(Authorization=authorization("test:one more"))
    known = await hop.send()
    other = await hop.send(Authorization=OTHER)

    assert (429, "TooManyRequestsError") == (refused.status, refused.id)
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert 200 == known.status
    assert 200 == other.status


@pytest.fixture
async def credentials(users_file, monkeypatch):
    """Credentials with a clock that the test moves, and a hash that takes no time."""
    monkeypatch.setattr("chassis.password_queue._hash", lambda hashed, password: password == "123")
    clock = [0.0]
    made = Credentials(UsersFile(users_file, samples_allowed=True), clock=lambda: clock[0])
    made.now = clock
    yield made
    made.close()


async def fail(credentials, number, address="127.0.0.1"):
    for each in range(number):
        with pytest.raises(UnauthorizedError):
            await credentials.check([authorization(f"test:{each}x")], address)


async def test_a_locked_name_may_try_again_after_a_minute(credentials):
    await fail(credentials, MAX_WRONG_A_MINUTE)
    with pytest.raises(TooManyRequestsError):
        await credentials.check([TEST], "127.0.0.1")
    credentials.now[0] = 61.0

    assert "test" == await credentials.check([TEST], "127.0.0.1")


@pytest.mark.parametrize(
    ("attacker", "caller", "is_locked"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::2:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
async def test_wrong_passwords_lock_a_name_for_their_network_alone(credentials, attacker, caller, is_locked):
    await fail(credentials, MAX_WRONG_A_MINUTE, attacker)

    if is_locked:
        with pytest.raises(TooManyRequestsError):
            await credentials.check([TEST], caller)
    else:
        assert "test" == await credentials.check([TEST], caller)


async def test_a_caller_in_use_is_never_locked_out_by_wrong_passwords_of_others(credentials):
    """130 wrong passwords in 45 s from the same address locked a caller out once its minute was over."""
    assert "test" == await credentials.check([TEST], "127.0.0.1")
    for _ in range(30):
        credentials.now[0] += 3_600.0
        await fail(credentials, MAX_WRONG_A_MINUTE)
        assert "test" == await credentials.check([TEST], "127.0.0.1")


async def test_a_caller_is_not_hashed_again_after_a_quiet_minute(credentials, monkeypatch):
    """The first request after it took 180 to 540 ms, since each hop hashed the password again."""
    await credentials.check([TEST], "127.0.0.1")
    monkeypatch.setattr(credentials._queue, "check", None)
    credentials.now[0] = REMEMBERED_SECONDS - 1
    await credentials.check([TEST], "127.0.0.1")
    credentials.now[0] *= 2

    assert "test" == await credentials.check([TEST], "127.0.0.1")


async def test_a_caller_that_is_not_in_use_is_forgotten_after_a_day(credentials):
    await credentials.check([TEST], "127.0.0.1")
    credentials.now[0] = REMEMBERED_SECONDS + 1

    assert credentials.known(TEST) is None


async def test_a_long_name_takes_no_memory(credentials):
    for number in range(3):
        with pytest.raises(UnauthorizedError):
            await credentials.check([authorization(f"{number}{'x' * 5_000}:1")], "127.0.0.1")

    assert 0 == len(credentials._wrong)


async def test_the_metrics_say_what_becomes_of_passwords(hop):
    await hop.send()
    await hop.send()
    for number in range(MAX_WRONG_A_MINUTE + 1):
        await hop.send(Authorization=authorization(f"test:wrong{number}"))

    count = hop.app[SERVICE].metrics.registry.get_sample_value
    assert {"right": 1, "wrong": MAX_WRONG_A_MINUTE, "locked": 1} == {
        outcome: count("password_checks_total", {"outcome": outcome})
        for outcome in ("right", "wrong", "locked")
    }


async def test_a_refusal_names_the_user_that_was_attempted_in_the_log_and_no_password(hop):
    await hop.send(Authorization=authorization("test:secret-1"))
    await hop.send(Authorization=authorization("nobody:secret-2"))

    known, unknown = hop.log.events
    assert ("wrong password for 'test'", "test") == (known["cause"], known["attempted"])
    assert ("unknown user name", "nobody") == (unknown["cause"], unknown["attempted"])
    assert "secret" not in hop.log.text


async def test_a_limited_number_of_passwords_waits_to_be_hashed(hop, slow_hash):
    asked = [
        asyncio.create_task(hop.send(Authorization=authorization(f"user{number}:x")))
        for number in range(MAX_PASSWORDS + 8)
    ]
    async with asyncio.timeout(60):
        while len(done := [each for each in asked if each.done()]) < 8:
            await asyncio.sleep(0.01)
    first = done[0].result()
    slow_hash.go_on.set()
    statuses = sorted([(await each).status for each in asked])

    assert (429, "TooManyRequestsError") == (first.status, first.id)
    assert int(first.headers["Retry-After"]) > 0
    assert [401] * MAX_PASSWORDS + [429] * 8 == statuses


async def outcome(future):
    try:
        return await future
    except TooManyRequestsError:
        return "refused"


async def test_networks_share_the_places_of_the_queue(slow_hash):
    """Forty threads with new names filled the queue, and new callers got 429 in fifteen of sixteen tries."""
    queue = PasswordQueue()
    hashed = HASHER.hash("123")
    attacks = [queue.check(None, f"guess{each}", "attacker") for each in range(MAX_PASSWORDS)]
    others = [queue.check(hashed, "123", f"caller{each}") for each in range(20)]
    with pytest.raises(TooManyRequestsError):
        queue.check(None, "guess", "attacker")
    slow_hash.go_on.set()

    assert [True] * 20 == [await each for each in others]
    assert [False] * 12 + ["refused"] * 20 == [await outcome(each) for each in attacks]
    queue.close()


async def test_networks_take_turns_in_the_queue(slow_hash):
    queue = PasswordQueue()
    checks = [queue.check(None, f"a{each}", "a") for each in range(5)]
    checks += [queue.check(None, f"b{each}", "b") for each in range(2)]
    slow_hash.go_on.set()
    await asyncio.gather(*checks)

    assert ["a0", "b0", "a1", "b1", "a2", "a3", "a4"] == slow_hash.passwords
    queue.close()


@pytest.fixture
async def own_users(start_hop, forwarder, tmp_path):
    """A hop with its own users file."""
    path = tmp_path / "users"
    users.add(path, "test", "123")
    users.add(path, "other", "456")
    return await start_hop(forwarder, path), path


async def test_a_changed_password_counts_after_a_reload(own_users):
    hop, path = own_users
    assert 200 == (await hop.send()).status
    users.add(path, "test", "new")
    await reload(hop.app)

    assert 401 == (await hop.send()).status
    assert 200 == (await hop.send(Authorization=authorization("test:new"))).status


async def test_added_and_removed_users_count_after_a_reload(own_users):
    hop, path = own_users
    assert 200 == (await hop.send()).status
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "test:" not in line))
    users.add(path, "third", "789")
    await reload(hop.app)

    assert 401 == (await hop.send()).status
    assert 200 == (await hop.send(Authorization=authorization("third:789"))).status
    assert 200 == (await hop.send(Authorization=OTHER)).status


async def test_a_change_of_the_users_file_lets_other_callers_stay_known(own_users, monkeypatch):
    hop, path = own_users
    await hop.send()
    users.add(path, "third", "789")
    await reload(hop.app)
    monkeypatch.setattr(hop.app[SERVICE].credentials._queue, "check", None)

    assert 200 == (await hop.send()).status


async def test_a_user_who_is_removed_during_the_check_is_refused(own_users, slow_hash):
    """The password was remembered for a minute when its hash was read before the file changed."""
    hop, path = own_users
    asked = asyncio.create_task(hop.send())
    async with asyncio.timeout(60):
        while not slow_hash.passwords:
            await asyncio.sleep(0.01)
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if "test:" not in line)
    )
    await reload(hop.app)
    slow_hash.go_on.set()

    assert 401 == (await asked).status
    assert 401 == (await hop.send()).status


REFUSED = "the users file is refused; the previous content stays in force"
INVALID_FILES = {
    "nonsense": "nonsense\n",
    "no hash": "test:123\n",
    "an impossible hash": "test:$argon2id$x\n",
    "a name twice": f"test:{CHEAP_HASHER.hash('1')}\ntest:{CHEAP_HASHER.hash('2')}\n",
    "no users": "",
    "a comment alone": "# the users are being edited\n",
    "no line end": f"test:{CHEAP_HASHER.hash('1')}\nother:{CHEAP_HASHER.hash('2')}",
    "a half-written line": f"test:{CHEAP_HASHER.hash('1')}\nother:$argon2id$v=19$m=194",
    "no file": None,
}


@pytest.mark.parametrize("content", INVALID_FILES.values(), ids=INVALID_FILES.keys())
async def test_an_invalid_users_file_leaves_the_users_before_in_force(own_users, content):
    """An empty or half-written file was used without a word, and right credentials got 401."""
    hop, path = own_users
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    await reload(hop.app)

    assert [200] * 3 == [(await hop.send()).status for _ in range(3)]
    (fault,) = [line for line in hop.log.events if line["event"] != "request"]
    assert ("error", REFUSED) == (fault["level"], fault["event"])
    assert str(path) in fault["cause"]


async def test_sighup_reads_the_users_file_again(own_users):
    hop, path = own_users
    await hop.send()
    users.add(path, "third", "789")
    await reload(hop.app)

    assert 200 == (await hop.send(Authorization=authorization("third:789"))).status
    assert ("the users file was reloaded", 3) == next(
        (line["event"], line["users"]) for line in hop.log.events if line["event"] != "request"
    )


async def test_readiness_says_that_the_users_file_is_not_in_force_until_it_is_corrected(own_users):
    hop, path = own_users
    before = path.read_text()
    path.write_text("nonsense\n")
    await reload(hop.app)
    at_fault = await hop.send(READY, adapt=False)
    known = await hop.send()
    path.write_text(before)
    await reload(hop.app)
    corrected = await hop.send(READY, adapt=False)

    assert (200, {"status": "ready", "warnings": [REFUSED]}) == (at_fault.status, at_fault.json)
    assert 200 == known.status
    assert {"status": "ready"} == corrected.json
    assert 1 == sum(line["event"] == REFUSED for line in hop.log.events)


async def test_a_corrected_users_file_unlocks_names(credentials):
    """Right passwords may have failed because of the file."""
    await fail(credentials, MAX_WRONG_A_MINUTE)
    await credentials.reload()

    assert "test" == await credentials.check([TEST], "127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "quotes.example", ""])
async def test_no_service_starts_with_sample_credentials_where_other_machines_reach_it(
    forwarder, start_hop, host
):
    with pytest.raises(SampleCredentialsError, match=r"test.*QUOTES_ALLOW_SAMPLE_CREDENTIALS"):
        await start_hop(forwarder, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
async def test_sample_credentials_are_accepted_on_loopback(forwarder, start_hop, host):
    assert 200 == (await (await start_hop(forwarder, host=host)).send()).status


async def test_sample_credentials_are_accepted_elsewhere_if_a_setting_allows_them(forwarder, start_hop):
    hop = await start_hop(forwarder, host="0.0.0.0", allow_sample_credentials="true")

    assert 200 == (await hop.send()).status


async def test_a_sample_name_with_another_password_is_accepted_everywhere(forwarder, start_hop, tmp_path):
    users.add(tmp_path / "users", "test", "a password of its own")

    hop = await start_hop(forwarder, tmp_path / "users", host="0.0.0.0")

    assert 200 == (await hop.send(Authorization=authorization("test:a password of its own"))).status


async def test_a_running_service_does_not_load_sample_credentials(forwarder, start_hop, tmp_path):
    path = tmp_path / "users"
    users.add(path, "alice", "a password of her own")
    hop = await start_hop(forwarder, path, host="0.0.0.0")
    users.add(path, "test", "123")
    await reload(hop.app)

    assert 401 == (await hop.send()).status
    assert "sample passwords" in hop.log.text


SECRET = "correct-horse"
BROKEN_REPLIES = (
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    b"",
)


@pytest.mark.parametrize("forwarder", FORWARDERS)
async def test_no_secret_is_in_a_log_line_or_a_response(start_hop, forwarder, tmp_path):
    """Right and wrong passwords, refusals, and a next hop that repeats the request."""
    users.add(tmp_path / "users", "alice", SECRET)
    hop = await start_hop(forwarder, tmp_path / "users")
    right, wrong = authorization(f"alice:{SECRET}"), authorization(f"alice:{SECRET}-2")
    answers = [
        await hop.send(Authorization=right),
        await hop.send(Authorization=wrong),
        await hop.send(Authorization=right, Content_Type="text/plain"),
        await hop.send(Authorization=right + "!"),
        await hop.send(Authorization=right, Idempotency_Key="two words"),
        *await hop.send_bytes(hop.request_bytes(SOURCE, Authorization=f"{right}\r\nAuthorization: {wrong}")),
        *await hop.send_bytes(hop.request_bytes(SOURCE, Authorization=f"{right}\x00")),
        *await hop.send_bytes(hop.request_bytes(SOURCE, Authorization=right, Host="a\x01b")),
        *await hop.send_bytes(hop.request_bytes(SOURCE, Authorization=right + "x" * 9_000)),
    ]
    hop.next_hop.answer = reply(500, b"alas")
    answers.append(await hop.send(Authorization=right))
    async with scripted_server(*BROKEN_REPLIES) as broken:
        other = await start_hop(forwarder, tmp_path / "users", next_url=broken.url, directory_url=broken.url)
        answers += [await other.send(ask, Authorization=right) for ask in (SOURCE, LOOK_UP) * 3]
    hop.app[SERVICE].credentials._users = None
    answers.append(await hop.send(Authorization=right))

    text = hop.log.text + other.log.text + "".join(f"{answer.headers}{answer.body}" for answer in answers)
    assert 503 == answers[-1].status
    assert len(hop.log.kept) + len(other.log.kept) >= len(answers)
    for secret in (SECRET, right.partition(" ")[2].rstrip("="), wrong.partition(" ")[2].rstrip("=")):
        assert secret not in text
