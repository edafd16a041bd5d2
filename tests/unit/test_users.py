"""The users file and the command that keeps it (chassis.users)."""

import io
import subprocess
import sys

import pytest

from chassis import users
from chassis.users import HASHER, UsersFileError, add, main, read


def said(monkeypatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.mark.parametrize(
    ("name", "password"), [("alice", "s3cret"), ("жена", "пароль:#"), ("a" * 64, "x" * 1_024)]
)
def test_what_was_added_is_read(tmp_path, name, password):
    path = tmp_path / "users"
    add(path, name, password)

    found = read(path)
    assert [name] == list(found)
    assert HASHER.verify(found[name], password)
    assert password not in path.read_text()


def test_adding_again_changes_the_password_and_leaves_the_others(tmp_path):
    path = tmp_path / "users"
    for name, password in (("a", "1"), ("b", "2"), ("a", "3")):
        add(path, name, password)

    found = read(path)
    assert ["a", "b"] == list(found)
    assert HASHER.verify(found["a"], "3")
    assert HASHER.verify(found["b"], "2")


def test_the_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "users"
    add(path, "a", "1")

    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_passwords_are_hashed_as_owasp_says(tmp_path):
    add(tmp_path / "users", "a", "1")

    assert ":$argon2id$v=19$m=19456,t=2,p=1$" in (tmp_path / "users").read_text()


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a\nb", "a\x00", "\u2028", "x" * 65, "#a"])
def test_a_name_that_would_break_the_file_is_refused(tmp_path, name):
    with pytest.raises(UsersFileError, match="a name"):
        add(tmp_path / "users", name, "1")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("password", ["", "x" * 1_025])
def test_a_password_has_bounds(tmp_path, password):
    with pytest.raises(UsersFileError, match="a password is 1 to"):
        add(tmp_path / "users", "a", password)


def test_comments_and_empty_lines_are_no_users(tmp_path):
    path = tmp_path / "users"
    add(path, "a", "1")
    path.write_text("# who may call\n\n  \n" + path.read_text() + "\n")

    assert ["a"] == list(read(path))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a", 1),
        ("a:", 1),
        (":$argon2id$x", 1),
        ("a:plain", 1),
        ("\n\na:$2b$12$x", 3),
        ("a:$argon2i$x", 1),
        ("a:$argon2id$\u00fc", 1),
        ("a:$argon2id$x\na:$argon2id$y", 2),
    ],
)
def test_a_line_at_fault_is_named(tmp_path, text, line):
    path = tmp_path / "users"
    path.write_text(text)

    with pytest.raises(UsersFileError, match=rf"users, line {line}: "):
        read(path)


@pytest.mark.parametrize("content", [None, b"a:\xff"])
def test_a_file_that_cannot_be_read_is_said(tmp_path, content):
    path = tmp_path / "users"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsersFileError, match="users cannot be read"):
        read(path)


def test_a_broken_file_is_not_overwritten(tmp_path):
    path = tmp_path / "users"
    path.write_text("nonsense")

    with pytest.raises(UsersFileError):
        add(path, "a", "1")
    assert "nonsense" == path.read_text()


def test_the_command_adds_a_user(tmp_path, monkeypatch):
    said(monkeypatch, "s3cret\n")

    assert 0 == main(["add", "alice", "--file", str(tmp_path / "users")])
    assert HASHER.verify(read(tmp_path / "users")["alice"], "s3cret")


def test_the_command_asks_on_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(users.getpass, "getpass", lambda prompt: prompt)

    assert 0 == main(["add", "alice", "--file", str(tmp_path / "users")])
    assert HASHER.verify(read(tmp_path / "users")["alice"], "Password for alice: ")


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    said(monkeypatch, "")

    assert 1 == main(["add", "alice", "--file", str(tmp_path / "users")])
    assert "error: a password is 1 to 1,024 characters\n" == capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["add"], ["add", "alice"], ["remove", "alice"]])
def test_the_command_explains_itself(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code
    assert "python -m chassis.users" in capsys.readouterr().err


def test_it_is_a_command(tmp_path):
    path = tmp_path / "users"
    done = subprocess.run(
        [sys.executable, "-m", "chassis.users", "add", "alice", "--file", path],
        input=b"s3cret\n",
        check=True,
        capture_output=True,
    )

    assert (b"", b"") == (done.stdout, done.stderr)
    assert ["alice"] == list(read(path))
