"""Who may call (wire.md §3, §4): HTTP Basic against the users file."""

import asyncio
import base64
import os

import pytest

from chassis import users
from chassis.app import SERVICE
from chassis.auth import MAX_WRONG_A_MINUTE, Credentials, SampleCredentialsError, UsersFile
from chassis.errors import TooManyRequestsError
from support.forwarders import LOOK_UP, SOURCE, authorization, is_error_object
from support.messages import OTHER, TEST
from support.serving import reply
from support.sockets import sockets


def encoded(data: bytes) -> str:
    return "Basic " + base64.b64encode(data).decode()


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
    "a wrong password": encoded(b"test:1234"),
    "another's password": encoded(b"test:456"),
    "a name nobody has": encoded(b"nobody:123"),
    "a name in another case": encoded(b"Test:123"),
    "a blank before the name": encoded(b" test:123"),
    "a newline behind": encoded(b"test:123\n"),
    "another scheme": "Bearer dGVzdDoxMjM=",
    "digest": 'Digest username="test"',
    "no scheme": "dGVzdDoxMjM=",
    "beyond ASCII": "Basic dGVzdDoxMjM=ü",
    "two in one": "Basic dGVzdDoxMjM=, Basic dGVzdDoxMjM=",
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG.keys())
async def test_no_malformed_or_wrong_credentials_are_401(hop, given):
    for ask in [SOURCE, LOOK_UP]:
        answer = await hop.send(ask, Authorization=given)

        assert (401, "UnauthorizedError") == (answer.status, answer.id)
        assert f'Basic realm="{hop.service}", charset="UTF-8"' == answer.headers["WWW-Authenticate"]
        assert is_error_object(answer)
        assert [] == hop.next_hop.seen + hop.directory.seen


async def test_two_authorizations_let_nobody_in(hop):
    [answer] = await hop.raw(
        hop.written(SOURCE).replace(b"Connection:", f"Authorization: {TEST}\r\nConnection:".encode())
    )

    assert answer.status in {400, 401}
    assert is_error_object(answer)
    assert [] == hop.next_hop.seen + hop.directory.seen


async def test_names_and_passwords_are_utf_8(hop_to, forwarder, tmp_path):
    users.add(tmp_path / "users", "жена", "пароль:ü 🔑")
    hop = await hop_to(forwarder, tmp_path / "users")

    answer = await hop.send(Authorization=authorization("жена:пароль:ü 🔑"))

    assert 200 == answer.status
    assert "жена" == hop.lines.events[-1]["caller"]


async def test_a_known_caller_is_not_hashed_again(hop, monkeypatch):
    await hop.send()
    credentials = hop.app[SERVICE].credentials
    monkeypatch.setattr(credentials, "_hash", None)

    assert 200 == (await hop.send()).status


async def test_the_same_header_at_once_is_hashed_once(hop, monkeypatch):
    credentials = hop.app[SERVICE].credentials
    hash_ = credentials._hash
    hashed = []

    async def counted(name, password):
        hashed.append(name)
        while hop.app[SERVICE].in_hand < 50:
            await asyncio.sleep(0.01)
        return await hash_(name, password)

    monkeypatch.setattr(credentials, "_hash", counted)

    answers = await asyncio.gather(*(hop.send() for _ in range(50)))

    assert {200} == {answer.status for answer in answers}
    assert ["test"] == hashed


async def test_a_hundred_wrong_passwords_a_minute_are_enough(hop):
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


async def test_after_a_minute_a_name_may_try_again(users_file):
    now = 0.0
    credentials = Credentials(UsersFile(users_file, print, samples_allowed=True), clock=lambda: now)
    for number in range(MAX_WRONG_A_MINUTE):
        with pytest.raises(Exception, match="Valid credentials"):
            await credentials.check([authorization(f"test:{number}x")], "127.0.0.1")
    with pytest.raises(TooManyRequestsError):
        await credentials.check([TEST], "127.0.0.1")
    now = 61.0

    assert "test" == await credentials.check([TEST], "127.0.0.1")
    credentials.close()


async def test_anothers_address_is_not_held_up(users_file):
    credentials = Credentials(UsersFile(users_file, print, samples_allowed=True))
    for number in range(MAX_WRONG_A_MINUTE):
        with pytest.raises(Exception, match="Valid credentials"):
            await credentials.check([authorization(f"test:{number}x")], "192.0.2.1")

    assert "test" == await credentials.check([TEST], "192.0.2.2")
    credentials.close()


async def test_no_more_than_a_few_passwords_wait_to_be_checked(hop, monkeypatch):
    go_on = asyncio.Event()

    async def slow(_name, _password):
        await go_on.wait()
        return False

    monkeypatch.setattr(hop.app[SERVICE].credentials, "_hash", slow)
    asked = [
        asyncio.create_task(hop.send(Authorization=authorization(f"user{number}:x"))) for number in range(40)
    ]
    async with asyncio.timeout(10):
        while len(done := [each for each in asked if each.done()]) < 8:
            await asyncio.sleep(0.01)
    first = done[0].result()
    go_on.set()
    statuses = sorted([(await each).status for each in asked])

    assert (429, "TooManyRequestsError") == (first.status, first.id)
    assert int(first.headers["Retry-After"]) > 0
    assert [401] * 32 + [429] * 8 == statuses


@pytest.fixture
async def own_users(hop_to, forwarder, tmp_path, monkeypatch):
    """A hop with a users file of its own, which it looks at each time."""
    path = tmp_path / "users"
    users.add(path, "test", "123")
    users.add(path, "other", "456")
    monkeypatch.setattr("chassis.auth.LOOK_AT_FILE_SECONDS", 0.0)
    return await hop_to(forwarder, path), path


async def test_a_changed_password_counts_at_once(own_users):
    hop, path = own_users
    assert 200 == (await hop.send()).status
    users.add(path, "test", "new")

    assert 401 == (await hop.send()).status
    assert 200 == (await hop.send(Authorization=authorization("test:new"))).status


async def test_a_removed_user_is_out_and_an_added_one_in(own_users):
    hop, path = own_users
    assert 200 == (await hop.send()).status
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "test:" not in line))
    users.add(path, "third", "789")

    assert 401 == (await hop.send()).status
    assert 200 == (await hop.send(Authorization=authorization("third:789"))).status
    assert 200 == (await hop.send(Authorization=OTHER)).status


@pytest.mark.parametrize("broken", ["nonsense", "test:123", "test:$argon2id$x\ntest:$argon2id$y", None])
async def test_a_broken_users_file_leaves_the_old_one_in_force(own_users, broken):
    hop, path = own_users
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)

    assert 200 == (await hop.send()).status
    assert "users file is not taken over" in hop.lines.text


async def test_a_users_file_is_looked_at_once_a_second(users_file, tmp_path):
    path = tmp_path / "users"
    users.add(path, "a", "b")
    file = UsersFile(path, print, samples_allowed=True)

    assert not file.changed(10.0)
    users.add(path, "c", "d")
    os.utime(path, ns=(1, 1))
    assert not file.changed(10.9)
    assert file.changed(11.0)
    assert file.hash_of("c")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "quotes.example", ""])
async def test_no_service_starts_with_sample_credentials_where_others_reach_it(forwarder, hop_to, host):
    with pytest.raises(SampleCredentialsError, match=r"test.*QUOTES_ALLOW_SAMPLE_CREDENTIALS"):
        await hop_to(forwarder, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
async def test_sample_credentials_are_for_loopback(forwarder, hop_to, host):
    assert 200 == (await (await hop_to(forwarder, host=host)).send()).status


async def test_sample_credentials_are_taken_elsewhere_when_told_so_by_name(forwarder, hop_to):
    hop = await hop_to(forwarder, host="0.0.0.0", allow_sample_credentials="true")

    assert 200 == (await hop.send()).status


async def test_a_sample_name_with_a_password_of_its_own_is_no_sample(forwarder, hop_to, tmp_path):
    users.add(tmp_path / "users", "test", "a password of its own")

    hop = await hop_to(forwarder, tmp_path / "users", host="0.0.0.0")

    assert 200 == (await hop.send(Authorization=authorization("test:a password of its own"))).status


async def test_sample_credentials_do_not_come_in_while_a_service_runs(
    forwarder, hop_to, tmp_path, monkeypatch
):
    monkeypatch.setattr("chassis.auth.LOOK_AT_FILE_SECONDS", 0.0)
    path = tmp_path / "users"
    users.add(path, "alice", "a password of her own")
    hop = await hop_to(forwarder, path, host="0.0.0.0")
    users.add(path, "test", "123")

    assert 401 == (await hop.send()).status
    assert "sample credentials" in hop.lines.text


SECRET = "correct-horse"
BROKEN_REPLIES = (
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    b"",
)


async def test_no_secret_is_in_a_log_line_or_a_reply(hop_to, forwarder, tmp_path):
    """Whatever goes wrong: right and wrong passwords, refusals, a next hop that tells all it heard."""
    users.add(tmp_path / "users", "alice", SECRET)
    hop = await hop_to(forwarder, tmp_path / "users")
    right, wrong = authorization(f"alice:{SECRET}"), authorization(f"alice:{SECRET}-2")
    answers = [
        await hop.send(Authorization=right),
        await hop.send(Authorization=wrong),
        await hop.send(Authorization=right, Content_Type="text/plain"),
        await hop.send(Authorization=right + "!"),
        await hop.send(Authorization=right, Idempotency_Key="two words"),
        *await hop.raw(hop.written(SOURCE, Authorization=f"{right}\r\nAuthorization: {wrong}")),
        *await hop.raw(hop.written(SOURCE, Authorization=f"{right}\x00")),
        *await hop.raw(hop.written(SOURCE, Authorization=right, Host="a\x01b")),
        *await hop.raw(hop.written(SOURCE, Authorization=right + "x" * 9_000)),
    ]
    hop.next_hop.answer = reply(500, b"alas")
    answers.append(await hop.send(Authorization=right))
    async with sockets(*BROKEN_REPLIES) as broken:
        other = await hop_to(forwarder, tmp_path / "users", next_url=broken.url, directory_url=broken.url)
        answers += [await other.send(ask, Authorization=right) for ask in (SOURCE, LOOK_UP) * 3]
    hop.app[SERVICE].credentials._users = None
    answers.append(await hop.send(Authorization=right))

    said = hop.lines.text + other.lines.text + "".join(f"{answer.headers}{answer.body}" for answer in answers)
    assert 503 == answers[-1].status
    assert len(hop.lines.kept) + len(other.lines.kept) >= len(answers)
    for secret in (SECRET, right.partition(" ")[2].rstrip("="), wrong.partition(" ")[2].rstrip("=")):
        assert secret not in said
