"""A changed file of exposure limits takes effect without a signal, as a whole or not at all."""

import pytest

from support.payee import Caller, until

ONE_QUOTE = '[[limit]]\ncaller = "test"\ncurrencyCode = "USD"\ncountLimit = 1\n'


@pytest.fixture
def limits_file(tmp_path):
    file = tmp_path / "limits.toml"
    file.write_text("limit = []")
    return file


async def warnings(payee: Caller) -> list[str]:
    reply = await payee.readiness()
    assert 200 == reply.status
    found: list[str] = reply.json.get("warnings", [])
    return found


async def test_a_changed_file_limits_quotes_and_one_with_a_fault_changes_nothing(start, limits_file):
    payee = await start(exposure_limits_file=limits_file)
    for key in ("one", "two"):
        await payee.reserved(key=key)
    limits_file.write_text(ONE_QUOTE)

    async def is_limited() -> bool:
        return 422 == (await payee.reserve()).status

    await until(is_limited)
    limits_file.write_text(ONE_QUOTE + ONE_QUOTE.replace("1", "-1"))

    async def is_refused() -> bool:
        return bool(await warnings(payee))

    await until(is_refused)

    (warning,) = await warnings(payee)
    assert warning.startswith("the file of exposure limits is refused; the previous content stays in force: ")
    assert warning.endswith(
        "limits.toml, line 5: countLimit must be a whole number from 0 to 1,000,000,000,000, not -1"
    )
    assert 422 == (await payee.reserve()).status


async def test_a_payee_does_not_start_with_a_file_that_has_a_fault(start, limits_file):
    limits_file.write_text(ONE_QUOTE.replace("USD", "XXX"))

    with pytest.raises(Exception, match=r"limits\.toml, line 1: currencyCode 'XXX' must be an ISO 4217"):
        await start(exposure_limits_file=limits_file)
