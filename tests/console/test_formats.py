"""Figures as the pages show them."""

import pytest

from console import formats
from console.formats import UNKNOWN


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, UNKNOWN),
        (float("nan"), UNKNOWN),
        (0.0, "0 ms"),
        (0.0042, "4.2 ms"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (90, "90.0 s"),
        (600, "10 min"),
        (10_000, "3 h"),
        (864_000, "10 d"),
    ],
)
def test_a_duration_has_one_unit(seconds, shown):
    assert shown == formats.duration(seconds)


def test_an_age_says_how_long_ago_a_time_is():
    shown = [formats.age(at, 1_000.0) for at in (None, 1_001.0, 997.6, 400.0)]

    assert ["never", "0 s ago", "2 s ago", "10 min ago"] == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(None, UNKNOWN), (0, "0 B"), (512, "512 B"), (8192, "8 KiB"), (5 << 30, "5 GiB")]
)
def test_a_size_has_a_binary_unit(count, shown):
    assert shown == formats.size(count)


@pytest.mark.parametrize(
    ("part", "shown"), [(None, UNKNOWN), (0.0, "0.0 %"), (0.0001, "< 0.1 %"), (1.0, "100.0 %")]
)
def test_a_small_share_is_not_shown_as_nothing(part, shown):
    assert shown == formats.percent(part)


def test_a_line_has_gaps_where_nothing_is_known():
    assert "M0.0 23.0h0L40.0 1.0M120.0 12.0h0" == formats.sparkline([0.0, 2.0, None, 1.0])


def test_a_line_of_nothing_is_empty():
    assert "" == formats.sparkline([])
    assert "" == formats.sparkline([None, None])
    assert "M0.0 23.0h0L120.0 23.0" == formats.sparkline([0.0, 0.0])
