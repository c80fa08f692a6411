"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdf_upsert.core.wording import clock, count, duration, one_line, rate, size


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (count(1, "record"), "1 record"),
        (count(0, "record"), "0 records"),
        (count(1003, "record"), "1,003 records"),
        (size(0), "0 bytes"),
        (size(999), "999 bytes"),
        (size(1000), "1.0 kB"),
        (size(9949), "9.9 kB"),
        (size(9951), "10 kB"),
        (size(460_013), "460 kB"),
        (size(999_499), "999 kB"),
        (size(999_500), "1.0 MB"),
        (size(15e9), "15 GB"),
        (size(15e15), "15,000.0 TB"),
        (duration(0), "0.0 s"),
        (duration(1.24), "1.2 s"),
        (duration(9.96), "10 s"),
        (duration(59.4), "59 s"),
        (duration(59.6), "1 min 0 s"),
        (duration(252), "4 min 12 s"),
        (duration(7500), "2 h 5 min"),
        (clock(252), "4:12"),
        (clock(-3), "0:00"),
        (clock(3723), "1:02:03"),
        (rate(0), "0/s"),
        (rate(0.44), "0.4/s"),
        (rate(9.96), "10/s"),
        (rate(12_345.6), "12,346/s"),
    ],
)
def test_numbers(told, text):
    """Numbers, sizes, times and rates have two or three digits, and no unit is ever overrun."""
    assert told == text


@given(st.text())
def test_one_line_is_one_line(text):
    """Whatever text comes, it is one line, and what is no control character stays."""
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line
    if text.isprintable():
        assert line == text
