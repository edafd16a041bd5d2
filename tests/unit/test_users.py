"""The users file and the command that edits it (chassis.users)."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from chassis import users
from chassis.users import HASHER, UsersFileError, add, key_of, main, read
from support.settings import CHEAP_HASHER

HASHED = CHEAP_HASHER.hash("x")
NFC, NFD = "Zo\u00eb", "Zoe\u0308"


def stdin(monkeypatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


@pytest.mark.parametrize(
    ("name", "password"), [("alice", "s3cret"), ("жена", "пароль:#"), ("a" * 64, "x" * 1_024)]
)
def test_an_added_user_is_read(tmp_path, name, password):
    path = tmp_path / "users"
    add(path, name, password)

    found = read(path)
    assert [name] == list(found)
    assert HASHER.verify(found[name].hashed, password)
    assert password not in path.read_text()


def test_adding_a_user_again_changes_the_password_alone(tmp_path):
    path = tmp_path / "users"
    for name, password in (("a", "1"), ("b", "2"), ("a", "3")):
        add(path, name, password)

    found = read(path)
    assert ["a", "b"] == list(found)
    assert HASHER.verify(found["a"].hashed, "3")
    assert HASHER.verify(found["b"].hashed, "2")


def test_only_the_owner_can_read_the_file(tmp_path):
    path = tmp_path / "users"
    add(path, "a", "1")

    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_passwords_are_hashed_as_owasp_recommends(tmp_path):
    add(tmp_path / "users", "a", "1")

    assert ":$argon2id$v=19$m=19456,t=2,p=1$" in (tmp_path / "users").read_text()


def test_names_and_passwords_are_stored_in_nfc(tmp_path):
    """A keyboard that writes the letters in another form gives the same name and password."""
    path = tmp_path / "users"
    add(path, NFD, NFD)
    add(path, NFC, NFD)

    [user] = read(path).values()
    assert NFC == user.name
    assert HASHER.verify(user.hashed, NFC)


def test_e_mail_addresses_are_compared_without_regard_to_case(tmp_path):
    path = tmp_path / "users"
    add(path, "User@Example.com", "1")
    add(path, "user@example.com", "2")
    add(path, "Alice", "1")
    add(path, "alice", "1")

    assert ["user@example.com", "Alice", "alice"] == [user.name for user in read(path).values()]
    assert key_of("ÅSA@example.com") == key_of("a\u030asa@EXAMPLE.com")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a:b",
        "a b",
        " a",
        "a\nb",
        "a\x00",
        "\u2028",
        "a\u200b",
        "a\u202eb",
        "\u3164",
        "a\u2800",
        "x" * 65,
        "#a",
    ],
)
def test_an_invalid_name_is_refused(tmp_path, name):
    with pytest.raises(UsersFileError, match="a name"):
        add(tmp_path / "users", name, "1")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("password", ["", "x" * 1_025, "a\x00", "a\tb", "a\x7f"])
def test_an_invalid_password_is_refused(tmp_path, password):
    """The services refuse control characters in Basic credentials."""
    with pytest.raises(UsersFileError, match=r"a password is 1 to 1,024 characters and has no control"):
        add(tmp_path / "users", "a", password)


@pytest.mark.parametrize(
    "text",
    [
        "# comment\n\n  \na:{hash}\n\n",
        "\ufeffa:{hash}\n",
        "a:{hash}",
        "a:{hash}  \r\n",
    ],
)
def test_comments_empty_lines_and_a_byte_order_mark_are_ignored(tmp_path, text):
    path = tmp_path / "users"
    path.write_text(text.format(hash=HASHED), encoding="utf-8")

    assert ["a"] == list(read(path))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a", 1),
        ("a:", 1),
        (":{hash}", 1),
        ("a:plain", 1),
        ("\n\na:$2b$12$x", 3),
        ("a:$argon2i$x", 1),
        ("a:$argon2id$\u00fc", 1),
        ("a:{hash}\na:{hash}", 2),
        ("Zo\u00eb:{hash}\nZoe\u0308:{hash}", 2),
        ("A@example.com:{hash}\na@example.com:{hash}", 2),
        (" a:{hash}", 1),
        ("a :{hash}", 1),
        ("b:{hash}\na\u200b:{hash}", 2),
        ("a\x1b:{hash}", 1),
        ("a:$argon2id$x", 1),
        ("a:{hash}!", 1),
        ("a:$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$", 1),
        ("a:$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHQ$" + "x" * 43, 1),
        ("a:$argon2id$v=19$m=7,t=2,p=1$c2FsdHNhbHQ$" + "x" * 43, 1),
        ("a:$argon2id$v=19$m=19456,t=999,p=1$c2FsdHNhbHQ$" + "x" * 43, 1),
        ("a:$argon2d$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$" + "x" * 43, 1),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(tmp_path, text, line):
    path = tmp_path / "users"
    path.write_text(text.format(hash=HASHED), encoding="utf-8")

    with pytest.raises(UsersFileError, match=rf"users, line {line}: "):
        read(path)


@pytest.mark.parametrize("cut", [1, 2, 10, 40])
def test_a_file_that_ends_inside_a_line_may_be_incomplete(tmp_path, cut):
    path = tmp_path / "users"
    content = f"a:{HASHED}\nb:{HASHED}\n"
    path.write_text(content[:-cut])

    with pytest.raises(UsersFileError, match="users, line 2: "):
        read(path, must_end=True)


@pytest.mark.parametrize(("content", "fault"), [(None, "users cannot be read"), (b"a:\xff", "is not UTF-8")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, fault):
    path = tmp_path / "users"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsersFileError, match=fault):
        read(path)


def test_an_invalid_file_is_not_overwritten(tmp_path):
    path = tmp_path / "users"
    path.write_text("nonsense")

    with pytest.raises(UsersFileError):
        add(path, "a", "1")
    assert "nonsense" == path.read_text()


@pytest.mark.parametrize("text", ["s3cret\n", "s3cret\r\n", "s3cret", "\ufeffs3cret\n"])
def test_the_command_adds_a_user(tmp_path, monkeypatch, text):
    stdin(monkeypatch, text)

    assert 0 == main(["add", "alice", "--file", str(tmp_path / "users")])
    assert HASHER.verify(read(tmp_path / "users")["alice"].hashed, "s3cret")


def test_the_command_prompts_on_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(users.getpass, "getpass", lambda prompt: prompt)

    assert 0 == main(["add", "alice", "--file", str(tmp_path / "users")])
    assert HASHER.verify(read(tmp_path / "users")["alice"].hashed, "Password for alice: ")


def test_the_command_names_the_fault(tmp_path, monkeypatch, capsys):
    stdin(monkeypatch, "")

    assert 1 == main(["add", "alice", "--file", str(tmp_path / "users")])
    assert (
        "error: a password is 1 to 1,024 characters and has no control characters\n"
        == capsys.readouterr().err
    )


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    """`make user` before the first `make run` ended with a traceback."""
    folder, file = tmp_path / "absent", tmp_path / "file"
    file.write_text("")
    for path, cause in (
        (folder / "users", f"there is no folder {folder}"),
        (file / "users", "Not a directory"),
    ):
        stdin(monkeypatch, "s3cret\n")

        assert 1 == main(["add", "alice", "--file", str(path)])
        assert f"error: {path} cannot be written: {cause}\n" == capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["add"], ["add", "alice"], ["remove", "alice"]])
def test_the_command_explains_its_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code
    assert "python -m chassis.users" in capsys.readouterr().err


def test_the_module_is_a_command(tmp_path):
    path = tmp_path / "users"
    done = subprocess.run(
        [sys.executable, "-m", "chassis.users", "add", "alice", "--file", path],
        input=b"s3cret\n",
        check=True,
        capture_output=True,
    )

    assert (b"", b"") == (done.stdout, done.stderr)
    assert ["alice"] == list(read(path))


@pytest.mark.parametrize(
    ("setting", "environment", "file"),
    [
        ("FILE=users", None, "folder/users"),
        ("FILE=integrations-users", None, "folder/integrations-users"),
        ("FILE=./users", None, "./users"),
        ("FILE=", None, "folder/users"),
        ("FILE=", "own-users", "own-users"),
    ],
)
def test_make_user_writes_a_file_that_the_running_services_read(monkeypatch, setting, environment, file):
    """FILE=users made a file in the working folder, which no service reads."""
    monkeypatch.delenv("QUOTES_USERS_FILE", raising=False)
    if environment is not None:
        monkeypatch.setenv("QUOTES_USERS_FILE", environment)
    done = subprocess.run(
        ["make", "--dry-run", "user", "NAME=alice", "DATA=folder", setting],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )

    assert f'-m chassis.users add "alice" --file "{file}"' in done.stdout
