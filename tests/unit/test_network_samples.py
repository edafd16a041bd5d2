"""The sample users and the sample directory."""

import json

import pytest

from chassis.users_file import SAMPLE_USERS
from network import sample_strategy, samples
from network.samples import SampleError
from signal_receiver.accounts_file import SAMPLE_TOKEN

HERE = "http://127.0.0.1:9013"


def receivers(file):
    return [entry["spspReceiver"] for entry in json.loads(file.read_text())["resources"]]


def test_a_new_directory_contains_the_three_sample_payees(tmp_path):
    file = tmp_path / "directory.json"
    samples.ensure_directory(file, HERE)
    payees = json.loads(file.read_text())["resources"]

    assert [("eur", "30754016"), ("eur", "30754017"), ("tel", "+35988123456")] == [
        (entry["identifierType"], entry["identifier"]) for entry in payees
    ]
    assert [HERE] * 3 == receivers(file)


def test_the_port_of_the_sample_payees_is_updated_and_other_entries_are_kept(tmp_path):
    file = tmp_path / "directory.json"
    samples.ensure_directory(file, "http://127.0.0.1:8013")
    content = json.loads(file.read_text())
    content["resources"][1]["spspReceiver"] = "https://spsp.example/receivers"
    content["resources"].append(
        {"identifierType": "eur", "identifier": "1", "spspReceiver": "http://127.0.0.1:8013"}
    )
    content["dfsps"]["dfsp9"] = {"name": "Банка"}
    file.write_text(json.dumps(content))
    samples.ensure_directory(file, HERE)

    assert [HERE, "https://spsp.example/receivers", HERE, "http://127.0.0.1:8013"] == receivers(file)
    assert {"dfsp9": {"name": "Банка"}} == json.loads(file.read_text())["dfsps"]


def test_an_unchanged_directory_is_not_written(tmp_path):
    file = tmp_path / "directory.json"
    samples.ensure_directory(file, HERE)
    before = file.stat()
    samples.ensure_directory(file, HERE)

    assert (before.st_ino, before.st_mtime_ns) == (file.stat().st_ino, file.stat().st_mtime_ns)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"resources": [1]}', '{"resources": {"a": 1}}'])
def test_a_file_that_is_not_a_directory_is_reported_and_kept(tmp_path, content):
    file = tmp_path / "directory.json"
    file.write_text(content)

    with pytest.raises(SampleError, match=r"directory\.json is not a directory file"):
        samples.ensure_directory(file, HERE)
    assert content == file.read_text()


@pytest.fixture
def users_command(tmp_path, monkeypatch):
    """Replace `chassis.users` by a stub that fails for the name `bad`."""
    package = tmp_path / "modules" / "chassis"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "users.py").write_text(
        "import sys\nname, file = sys.argv[2], sys.argv[4]\n"
        "sys.exit('no such name') if name == 'bad' else None\n"
        "open(file, 'a').write(f'{name}={sys.stdin.read()}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.chdir(tmp_path)


def test_a_new_users_file_has_the_sample_callers_and_only_its_owner_can_read_it(users_command, tmp_path):
    file = tmp_path / "users"
    samples.ensure_users(file)

    assert "test=123\nother=456\nadmin=admin\n" == file.read_text()
    assert 0o600 == file.stat().st_mode & 0o777


def test_an_existing_users_file_is_kept(users_command, tmp_path):
    file = tmp_path / "users"
    file.write_text("own")
    samples.ensure_users(file)

    assert "own" == file.read_text()


def test_an_incomplete_users_file_is_never_visible(users_command, tmp_path):
    with pytest.raises(SampleError, match=r"(?s)cannot add the user bad to .*no such name"):
        samples.ensure_users(tmp_path / "users", {"test": "123", "bad": "1"})

    assert [tmp_path / "modules"] == list(tmp_path.iterdir())


def test_a_secret_is_created_once_and_only_its_owner_can_read_it(tmp_path):
    file = tmp_path / "encryption-keys"
    samples.ensure_secret(file, first := samples.encryption_key())
    samples.ensure_secret(file, samples.encryption_key())

    assert first == file.read_text()
    assert 0o600 == file.stat().st_mode & 0o777
    assert samples.encryption_key() != first


def test_the_samples_are_the_credentials_that_services_accept_on_loopback_only():
    """`network` does not import services, so both tables must be equal."""
    all_callers = (
        samples.CALLERS | samples.INTEGRATION_CALLERS | samples.RECEIVER_CALLERS | samples.CONSOLE_USERS
    )

    assert SAMPLE_USERS == all_callers
    assert f'token = "{SAMPLE_TOKEN}"' in samples.ACCOUNTS
    assert {sample_strategy.USER, sample_strategy.ENGINE} == set(samples.INTEGRATION_CALLERS)


def test_the_console_has_a_random_password_that_only_its_owner_can_read(tmp_path):
    first, again = (samples.console_password(tmp_path / "console-password") for _ in range(2))

    assert first == again
    assert first != samples.console_password(tmp_path / "another")
    assert 0o600 == (tmp_path / "console-password").stat().st_mode & 0o777


def test_a_user_is_added_to_an_existing_users_file_once(users_command, tmp_path):
    file = tmp_path / "users"
    file.write_text("consoles:hash\n")
    samples.ensure_user(file, "console", "secret")

    assert "consoles:hash\nconsole=secret\n" == file.read_text()

    file.write_text("console:hash\n")
    samples.ensure_user(file, "console", "another")

    assert "console:hash\n" == file.read_text()
