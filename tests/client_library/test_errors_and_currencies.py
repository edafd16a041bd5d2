"""The client's copies of the services' tables: errors and currencies are the same."""

import inspect
import pickle
import re

import pytest

import dfsp_quotes
from chassis import errors as services_errors
from dfsp_quotes import InvalidResponseError, NoResponseError, QuoteError, UpstreamError, errors
from dfsp_quotes.currencies import FRACTION_DIGITS
from dfsp_quotes.errors import ERRORS_BY_ID
from quoting.schemas import exponents


def of_services() -> dict[str, type[services_errors.QuotingError]]:
    found = dict(inspect.getmembers(services_errors, inspect.isclass))
    return {name: kind for name, kind in found.items() if issubclass(kind, services_errors.QuotingError)}


SERVICES = {name: kind for name, kind in of_services().items() if kind is not services_errors.QuotingError}


def test_the_client_has_one_class_for_each_error_id_and_no_other():
    assert sorted(SERVICES) == sorted(ERRORS_BY_ID)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_an_error_is_the_same_on_both_sides(name):
    theirs, ours = SERVICES[name], ERRORS_BY_ID[name]

    assert theirs.status == ours.status
    assert theirs.__doc__ == ours.__doc__
    parent = theirs.__base__.__name__.replace("QuotingError", "QuoteError")
    assert parent == ours.__base__.__name__
    assert ours is getattr(dfsp_quotes, name)
    assert name in dfsp_quotes.__all__


@pytest.mark.parametrize("kind", [NoResponseError, InvalidResponseError])
def test_the_errors_of_the_client_alone_are_quote_errors_without_an_id_of_the_services(kind):
    assert issubclass(kind, QuoteError)
    assert kind.__name__ not in ERRORS_BY_ID
    assert kind.__name__ in dfsp_quotes.__all__


def test_the_docstring_draws_every_error():
    drawn = re.findall(r"─ (\w+)", errors.__doc__)

    assert sorted([*ERRORS_BY_ID, "NoResponseError", "InvalidResponseError"]) == sorted(drawn)


def test_an_error_survives_pickling():
    error = UpstreamError("away", fields={"amount": "wrong"}, trace_id="1", is_outcome_unknown=True)
    copy = pickle.loads(pickle.dumps(error))

    assert UpstreamError is type(copy)
    assert vars(error) == vars(copy)
    assert str(error) == str(copy)


def test_the_fake_knows_the_currencies_of_the_services():
    assert exponents() == FRACTION_DIGITS
