"""The parameters and the cursor of a list of quotes."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidQueryParameterError
from dfsp_api.quote_filter import CURSOR, EARLIEST, LATEST, Position, position_of
from dfsp_api.quote_list import filter_of, time_of

# a cursor has 60 bits for the time, and its first letter keeps it before the year 9962, so that Python can add it
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - naive limits


@given(created=TIMES, uuid=st.uuids())
def test_a_cursor_is_the_position(created, uuid):
    position = Position(created, uuid)

    assert position == position_of(position.cursor)
    assert CURSOR.match(position.cursor)


@given(st.from_regex(CURSOR, fullmatch=True))
def test_every_text_in_the_form_of_a_cursor_is_a_position(text):
    """So a cursor that a caller invents can only give a list from that position."""
    assert text == position_of(text).cursor


@given(local=st.datetimes(), minutes=st.integers(-1_439, 1_439))
def test_a_time_is_read_as_python_reads_it(local, minutes):
    text = local.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat()
    try:
        expected = datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        expected = EARLIEST if local.year == 1 else LATEST

    assert expected == time_of(text)


def test_the_later_page_of_a_list_until_a_time_begins_at_the_earlier_of_both():
    cursor = Position(datetime(2030, 1, 2, tzinfo=UTC), UUID(int=7)).cursor

    def before(**query: str) -> Position:
        return filter_of(tuple(query.items())).before

    assert Position(LATEST, UUID(int=0)) == before()
    assert position_of(cursor) == before(after=cursor) == before(after=cursor, until="2030-01-03")
    assert Position(datetime(2030, 1, 1, tzinfo=UTC), UUID(int=0)) == before(after=cursor, until="2030-01-01")


@pytest.mark.parametrize("text", ["2030-01-01T00:00:00", "2030-01-01 00:00:00Z", "2030-02-29", "-2030-01-01"])
def test_a_time_needs_an_offset_and_a_real_day(text):
    with pytest.raises(InvalidQueryParameterError, match="since must be an ISO 8601 time"):
        filter_of((("since", text),))
