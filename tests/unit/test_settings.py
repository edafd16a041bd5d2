"""Settings are read from the environment and checked at start (chassis.settings)."""

from pathlib import Path

import attrs
import pytest
from cryptography.fernet import Fernet

from central_directory.app import CentralDirectorySettings
from chassis.settings import (
    Secret,
    Settings,
    SettingsError,
    base_url,
    base_urls,
    deprecations,
    load,
    number,
    old_names,
    one_of,
    user_names,
    variables,
    whole,
    yes_or_no,
)
from dfsp_api.payee import PayeeSettings
from dfsp_api.payer import PayerSettings
from integrations.settings import IntegrationsSettings
from quoting.service import ForwarderSettings
from signal_receiver.app import ReceiverSettings
from spsp_client.app import SpspClientSettings
from spsp_client_proxy.app import SpspClientProxySettings
from spsp_server.app import SpspServerSettings
from spsp_server_backend.app import SpspServerBackendSettings

PORTS = {
    PayerSettings: 8010,
    SpspClientProxySettings: 8011,
    SpspClientSettings: 8012,
    SpspServerSettings: 8013,
    SpspServerBackendSettings: 8014,
    PayeeSettings: 8015,
    CentralDirectorySettings: 8016,
    IntegrationsSettings: 8017,
    ReceiverSettings: 8018,
}
ALL_NEEDED = {
    "QUOTES_USERS_FILE": "users",
    "QUOTES_DIRECTORY_FILE": "directory.json",
    "QUOTES_DATABASE_URL": "postgres:///quotes",
    "QUOTES_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
}


@pytest.mark.parametrize(
    ("settings", "port"), PORTS.items(), ids=lambda each: getattr(each, "__name__", None)
)
def test_each_service_listens_on_loopback_at_its_port(settings, port):
    """The ports of wire.md §1."""
    loaded = load(settings, ALL_NEEDED)

    assert ("127.0.0.1", port) == (loaded.host, loaded.port)


@pytest.mark.parametrize("settings", PORTS)
def test_every_variable_has_a_help_text(settings):
    names = dict(variables(settings))
    for name, field in names.items():
        assert name.startswith("QUOTES_")
        assert f"{name}_FILE" not in names
        assert field.metadata["environ_config"].help


@pytest.mark.parametrize("settings", PORTS)
def test_an_old_name_stands_for_a_present_one(settings):
    names = dict(variables(settings))
    for old, new in old_names(settings).items():
        assert old not in names
        assert new in names


def test_a_variable_is_read_under_its_old_name_with_a_warning(tmp_path):
    file = tmp_path / "bytes"
    file.write_text("70000\n")
    environment = {
        "QUOTES_USERS_FILE": "users",
        "QUOTES_MOST_IN_HAND": "7",
        "QUOTES_LOG_MOST_BYTES_FILE": str(file),
    }

    loaded = load(Settings, environment)

    assert (7, 70_000) == (loaded.max_in_flight, loaded.log_max_bytes)
    assert [
        "QUOTES_MOST_IN_HAND is deprecated. Set QUOTES_MAX_IN_FLIGHT instead.",
        "QUOTES_LOG_MOST_BYTES_FILE is deprecated. Set QUOTES_LOG_MAX_BYTES_FILE instead.",
    ] == deprecations(Settings, environment)


@pytest.mark.parametrize("ending", ["", "_FILE"])
@pytest.mark.parametrize("other_ending", ["", "_FILE"])
def test_a_variable_set_under_both_names_is_an_error(ending, other_ending):
    old, new = f"QUOTES_MOST_IN_HAND{ending}", f"QUOTES_MAX_IN_FLIGHT{other_ending}"

    with pytest.raises(SettingsError, match=f"^{new} and {old} are both set: remove one of them$"):
        load(Settings, {"QUOTES_USERS_FILE": "users", old: "7", new: "7"})


def test_a_fault_names_the_variable_as_it_is_set():
    with pytest.raises(SettingsError, match=r"^QUOTES_MOST_IN_HAND must be from 1 to 1000000$"):
        load(Settings, {"QUOTES_USERS_FILE": "users", "QUOTES_MOST_IN_HAND": "0"})


@pytest.mark.parametrize("content", ["7", "\ufeff7\n", " 7\r\n"])
def test_a_value_in_a_file_has_no_byte_order_mark_and_no_surrounding_space(tmp_path, content):
    file = tmp_path / "value"
    file.write_text(content, encoding="utf-8")

    assert (
        7 == load(Settings, {"QUOTES_USERS_FILE": "u", "QUOTES_MAX_IN_FLIGHT_FILE": str(file)}).max_in_flight
    )


@pytest.mark.parametrize("character", ["\0", "\x1b", "\x7f", "\u200b", "\ufeff", "\x85"])
def test_a_value_in_a_file_holds_no_control_or_invisible_character(tmp_path, character):
    file = tmp_path / "value"
    file.write_text(f"user{character}s", encoding="utf-8")

    with pytest.raises(
        SettingsError, match=f"names {file}, but its line 1 has a control or invisible character"
    ):
        load(Settings, {"QUOTES_USERS_FILE_FILE": str(file)})


@pytest.mark.parametrize("content", ["", "\n", "\ufeff \n"])
def test_a_value_in_a_file_is_not_empty(tmp_path, content):
    """The file of a key that was cut off would switch off what the key is for."""
    file = tmp_path / "value"
    file.write_text(content, encoding="utf-8")

    with pytest.raises(SettingsError, match=f"^QUOTES_USERS_FILE_FILE names {file}, which is empty$"):
        load(Settings, {"QUOTES_USERS_FILE_FILE": str(file)})


def test_a_file_that_cannot_be_read_is_the_only_fault(tmp_path):
    with pytest.raises(
        SettingsError, match=r"^QUOTES_USERS_FILE_FILE names a file that cannot be used: [^;]*$"
    ):
        load(Settings, {"QUOTES_USERS_FILE_FILE": str(tmp_path / "missing")})


def test_all_faults_are_named_at_once():
    with pytest.raises(SettingsError) as raised:
        load(ForwarderSettings, {"QUOTES_PORT": "http", "QUOTES_MAX_IN_FLIGHT": "0", "QUOTES_NEXT_HOP": "x"})

    message = str(raised.value)
    assert "QUOTES_PORT must be a whole number from 0 to 65535" in message
    assert "QUOTES_MAX_IN_FLIGHT must be from 1 to 1000000" in message
    assert "QUOTES_NEXT_HOP must be an absolute http or https URL" in message


def test_each_missing_variable_is_named():
    with pytest.raises(SettingsError, match="QUOTES_NEXT_HOP is not set; QUOTES_USERS_FILE is not set"):
        load(ForwarderSettings, {})


def test_settings_never_change():
    loaded = load(Settings, {"QUOTES_USERS_FILE": "users"})

    assert Path("users") == loaded.users_file
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        loaded.port = 1


def test_other_variables_are_ignored():
    assert load(Settings, {"QUOTES_USERS_FILE": "users", "QUOTES_X": "1", "PORT": "99"}).port == 0


def test_the_repr_of_a_secret_hides_it():
    secret = Secret("hunter2")

    assert "hunter2" not in f"{secret!r} {[secret]}"
    assert "hunter2" == secret


def test_the_repr_of_settings_hides_the_database_url():
    environment = {**ALL_NEEDED, "QUOTES_DATABASE_URL": "postgres://quotes:hunter2@db/quotes"}

    assert "hunter2" not in repr(load(PayeeSettings, environment))


@pytest.mark.parametrize("value", ["1", "10", 5])
def test_a_whole_number_within_bounds_is_accepted(value):
    assert int(value) == whole(1, 10)(value)


@pytest.mark.parametrize("value", ["0", "11", "x", "", "1.5", "-1", "1e1"])
def test_any_other_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="must be"):
        whole(1, 10)(value)


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("1.5", 1.5), ("2", 2), (1, 1)])
def test_a_number_within_bounds_is_accepted(value, expected):
    assert expected == number(0, 2)(value)


@pytest.mark.parametrize("value", ["-0.1", "2.1", "x", "", "nan", "inf"])
def test_any_other_number_is_refused(value):
    with pytest.raises(ValueError, match="must be"):
        number(0, 2)(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", True),
        (" Yes ", True),
        ("1", True),
        ("FALSE", False),
        ("no", False),
        ("0", False),
        (True, True),
    ],
)
def test_a_boolean_has_some_words(value, expected):
    assert expected is yes_or_no(value)


@pytest.mark.parametrize("value", ["", "y", "on", "2", "tru", "none"])
def test_any_other_word_is_not_a_boolean(value):
    with pytest.raises(ValueError, match="must be true or false"):
        yes_or_no(value)


def test_a_word_is_one_of_the_allowed_ones():
    assert "a" == one_of("a", "b")("a")
    with pytest.raises(ValueError, match="must be one of a, b"):
        one_of("a", "b")("c")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://a", "http://a"),
        ("https://a:8443/b/", "https://a:8443/b"),
        ("http://[::1]:8013", "http://[::1]:8013"),
        ("http://a//", "http://a"),
    ],
)
def test_a_base_url_loses_its_last_slash(value, expected):
    assert expected == base_url(value)


@pytest.mark.parametrize(
    "value",
    ["", "a", "//a", "/a", "ftp://a", "http://", "http:///x", "http://u@a", "http://u:p@a", "http://@a", "http://a?",
     "http://a?x", "http://a#", "http://a#x", "http://a:x", "http://a:70000", "http://[::1", "http://a b", "http://a\tb",
     " http://a", "http://a\n", "http://a/b c", "http://a\\b", "http://a\u200b", "http://a/<b>"],
)  # fmt: skip
def test_any_other_base_url_is_refused(value):
    with pytest.raises(ValueError, match=r".+"):
        base_url(value)


def test_a_list_of_urls_is_separated_by_commas():
    assert ("http://a", "https://b/c") == base_urls("http://a/, https://b/c ,")
    assert () == base_urls(" , ")
    assert ("http://a",) == base_urls(("http://a",))
    with pytest.raises(ValueError, match="absolute"):
        base_urls("http://a,b")


def test_a_list_of_user_names_is_separated_by_commas_and_in_unicode_form_nfc():
    assert ("ann", "user@example.com") == user_names(" ann,user@example.com ,")
    assert () == user_names("")
    assert ("\u00e9",) == user_names("e\u0301")
    for faulty in ("ann:secret", "ann bob", "#ann", "a" * 65):
        with pytest.raises(ValueError, match="must be user names, separated by commas: a name"):
            user_names(faulty)
