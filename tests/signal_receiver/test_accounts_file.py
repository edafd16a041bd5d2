"""The accounts file: what is refused, and how a changed file takes effect."""

import re

import pytest

from chassis.run import StartError
from signal_receiver import accounts_file
from signal_receiver.accounts_file import AccountsError, AccountsFile
from signal_receiver.app import create_app
from support.messages import basic
from support.payee import until
from support.receiver import ACCOUNTS, settings_of


async def test_a_restart_keeps_funds_and_takes_tokens_from_the_file(start, tmp_path, monkeypatch):
    first = await start()
    await first.send("OPEN")
    monkeypatch.setattr(
        "support.receiver.ACCOUNTS", ACCOUNTS.replace('token = "sample"', 'token = "another"')
    )
    second = await start()
    outcomes = [(await second.send("CLOSE", token=token)).outcome for token in ("sample", "another")]

    assert [(401, "InvalidCredentials"), (200, None)] == outcomes
    assert "10000.00" == (await second.account())["funds"]


def test_the_sample_token_is_refused_on_an_address_that_is_not_loopback(tmp_path):
    with pytest.raises(StartError, match="the sample token is public"):
        create_app(settings_of("postgresql://", _without_samples(tmp_path), tmp_path, host="0.0.0.0"))


def _without_samples(folder):
    users = folder / "users"
    users.write_text("")
    return users


ONE = '[[account]]\nid = "a"\ntoken = "token-a"\nowner = "receiver"\nfunds = "1.00"\n'
REFUSED = {
    'id = "a"': ('id = "a b"', "id must be"),
    'token = "token-a"': ('token = "a/b"', "token must be"),
    'owner = "receiver"': ('owner = ""', "owner must be"),
    'owner = "receiver"\n': ('owner = "receiver "\n', "owner must be"),
    '"receiver"': ('"receiver\u200b"', "owner must be"),
    'funds = "1.00"': ('funds = "1.001"', "funds must be"),
    'funds = "1.00"\n': ('funds = "NaN"\n', "funds must be"),
    "[[account]]": ("[[accounts]]", "account"),
    "\n": ("\nheader = {name = 'a b', value = 'c'}\n", "header must"),
    "]]\n": ("]]\nheader = {name = 'a', value = ' c'}\n", "header must"),
}


@pytest.mark.parametrize(("found", "instead", "message"), [(found, *each) for found, each in REFUSED.items()])
def test_an_invalid_account_is_refused_with_the_fault(found, instead, message):
    with pytest.raises(AccountsError, match=message):
        accounts_file.parse(ONE.replace(found, instead, 1), sample_allowed=True)


@pytest.mark.parametrize("field", ["id", "token"])
def test_no_two_accounts_have_the_same_id_or_token(field):
    other = ONE.replace('"token-a"', '"token-b"') if field == "id" else ONE.replace('"a"', '"b"')

    with pytest.raises(AccountsError, match=f"^line 6: the account in line 1 has the same {field}"):
        accounts_file.parse(ONE + other, sample_allowed=True)


def test_an_invalid_accounts_file_is_refused_with_its_name_and_the_line(tmp_path):
    file = tmp_path / "accounts.toml"
    second = ONE.replace('"a"', '"b"').replace('"token-a"', '"token b"')
    for content, message in (
        ((ONE + second).encode(), "line 6: account b: token must be"),
        ((ONE + "=").encode(), "at line 6, column 1"),
        ((ONE + "[[account]]").encode(), "line 6: Object missing required field `id`"),
        (ONE.encode() + b"\xff", "line 6: is not UTF-8"),
        (ONE.encode("utf-16"), "line 1: is not UTF-8"),
    ):
        file.write_bytes(content)

        with pytest.raises(ValueError, match=rf"accounts\.toml.*{re.escape(message)}"):
            AccountsFile(file, sample_allowed=True)


def test_a_byte_order_mark_in_the_accounts_file_is_ignored(tmp_path):
    file = tmp_path / "accounts.toml"
    file.write_text(ONE, encoding="utf-8-sig")

    assert ["a"] == [account.id for account in AccountsFile(file, sample_allowed=True).accounts]


@pytest.fixture
async def edited(logged, tmp_path):
    """A receiver, its log lines, and a function that writes its accounts file."""
    sender, lines = logged

    def edit(content: str) -> None:
        (tmp_path / "accounts.toml").write_text(content)

    return sender, lines, edit


async def test_a_changed_accounts_file_takes_effect_without_a_restart(edited):
    sender, lines, edit = edited
    edit(
        ACCOUNTS.replace('token = "sample"', 'token = "renewed"').replace(
            'owner = "other"', 'owner = "receiver"'
        )
        + '\n[[account]]\nid = "new"\ntoken = "new-token"\nowner = "receiver"\nfunds = "5.00"\n'
    )
    await until(logged_event(lines, "the accounts file was reloaded"))
    outcomes = [
        (await sender.send("OPEN", 1, token=token)).outcome
        for token in ("sample", "renewed", "new-token", "poor-token")
    ]

    assert [
        (401, "InvalidCredentials"),
        (200, None),
        (422, "InsufficientFunds"),
        (422, "InsufficientFunds"),
    ] == outcomes
    assert "10000.00" == (await sender.account("others"))["funds"]


async def test_a_broken_accounts_file_is_logged_and_the_accounts_stay_in_force(edited):
    sender, lines, edit = edited
    edit(ACCOUNTS.replace('token = "sample"', 'token = "re newed"'))
    await until(logged_event(lines, "the accounts file is refused; the previous content stays in force"))
    meanwhile = await sender.send("OPEN", 1)
    edit(ACCOUNTS.replace('token = "sample"', 'token = "renewed"'))
    await until(logged_event(lines, "the accounts file was reloaded"))
    after = await sender.send("CLOSE", token="renewed")
    (refused,) = [line for line in lines if "is refused" in line["event"]]

    assert [(200, None), (200, None)] == [meanwhile.outcome, after.outcome]
    assert "error" == refused["level"]
    assert "accounts.toml, line 2: account sample: token must be" in refused["cause"]


async def test_an_owner_that_is_an_e_mail_address_is_compared_without_regard_to_case(edited):
    sender, lines, edit = edited
    edit(ACCOUNTS.replace('owner = "receiver"', 'owner = "USER@Example.com"', 1))
    await until(logged_event(lines, "the accounts file was reloaded"))
    account = await sender.account(authorization=basic("user@example.com", "sample"))

    assert "10000.00" == account["funds"]


async def test_two_accounts_can_swap_their_tokens(edited):
    sender, lines, edit = edited
    edit(
        ACCOUNTS.replace('"sample"', '"?"', 2)
        .replace('"?"', '"sample"', 1)
        .replace('"?"', '"poor-token"', 1)
        .replace(
            '"poor-token"\nowner = "receiver"\nfunds = "1.00"', '"sample"\nowner = "receiver"\nfunds = "1.00"'
        )
    )
    await until(logged_event(lines, "the accounts file was reloaded"))
    outcomes = [(await sender.send("OPEN", 1, token=token)).outcome for token in ("sample", "poor-token")]

    assert [(422, "InsufficientFunds"), (200, None)] == outcomes


async def test_a_token_can_move_to_a_new_account(edited):
    sender, lines, edit = edited
    edit(ACCOUNTS.replace('id = "poor"', 'id = "rich"').replace('"1.00"', '"1000.00"'))
    await until(logged_event(lines, "the accounts file was reloaded"))

    assert (200, None) == (await sender.send("OPEN", 1, token="poor-token")).outcome
    assert 1 == len((await sender.account("rich"))["positions"])


def logged_event(lines, event):
    async def is_logged() -> bool:
        return event in {line["event"] for line in lines}

    return is_logged
