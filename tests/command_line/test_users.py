"""`quotes users` changes the users file of services, and shows no password."""

import stat

import pytest

from chassis.users import HASHER, read
from support.command_line import CommandLine

PASSWORD = "correct-horse-battery"


@pytest.fixture
def users(tmp_path) -> CommandLine:
    return CommandLine(tmp_path, {"QUOTES_NEW_PASSWORD": PASSWORD})


async def test_users_are_added_listed_rotated_and_removed(users, tmp_path):
    path = tmp_path / "users"
    (tmp_path / "new").write_text("another\n")
    file = ("--file", "users")

    assert {"user": "alice", "change": "added"} == await users.json("users", "add", "alice", *file)
    assert {"user": "bob", "change": "added"} == await users.json("users", "add", "bob", *file)
    assert {"users": ["alice", "bob"]} == await users.json("users", "list", *file)
    assert HASHER.verify(read(path)["alice"].hashed, PASSWORD)

    rotated = await users.json("users", "rotate", "alice", *file, "--password-file", "new")
    assert {"user": "alice", "change": "rotated"} == rotated
    assert HASHER.verify(read(path)["alice"].hashed, "another")

    assert {"user": "alice", "change": "removed"} == await users.json("users", "remove", "alice", *file)
    assert {"users": ["bob"]} == await users.json("users", "list", *file)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


async def test_a_terminal_asks_for_the_password_twice_and_does_not_show_it(bare, tmp_path):
    keys = {"New password of alice: ": PASSWORD, "The same again: ": PASSWORD}
    done = await bare.on_terminal("users", "add", "alice", "--file", "users", keys=keys)

    assert 0 == done.code
    assert PASSWORD not in done.output
    assert "\x1b[32madded\x1b[0m alice" in done.output
    assert HASHER.verify(read(tmp_path / "users")["alice"].hashed, PASSWORD)


async def test_two_passwords_that_differ_change_nothing(bare, tmp_path):
    keys = {"New password of alice: ": PASSWORD, "The same again: ": "correct-house"}
    done = await bare.on_terminal("users", "add", "alice", "--file", "users", keys=keys)

    assert 2 == done.code
    assert "The two passwords differ, so nothing was changed." in done.output
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "test"), "users has a user 'test' already; `quotes users rotate` changes the password."),
        (("rotate", "nobody"), "users has no user 'nobody'; `quotes users add` adds one."),
        (("remove", "nobody"), "users has no user 'nobody'."),
        (("add", "a b"), "a name is 1 to 64 visible characters without colon and space."),
        (("list", "--file", "none"), "none cannot be read: No such file or directory."),
        (("add", "a", "--file", "none/users"), "none/users cannot be written: there is no folder none."),
        (
            ("list", "--file", "damaged"),
            "damaged, line 1: after the name and a colon there must be an argon2id hash.",
        ),
    ],
)
def test_each_failure_is_one_sentence_and_changes_nothing(
    refusal, monkeypatch, tmp_path, users_file, arguments, message
):
    (tmp_path / "users").write_bytes(users_file.read_bytes())
    (tmp_path / "damaged").write_text("alice:x\n")
    monkeypatch.setenv("QUOTES_NEW_PASSWORD", PASSWORD)
    more = () if "--file" in arguments else ("--file", "users")

    assert message == refusal("users", *arguments, *more)
    assert users_file.read_bytes() == (tmp_path / "users").read_bytes()


def test_a_user_without_a_password_is_bad_input(refusal):
    assert "The password is missing: set --password-file or QUOTES_NEW_PASSWORD." == refusal(
        "users", "add", "alice", "--file", "users"
    )
