"""Chunks are split into lines, wherever the chunks begin and end."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quoting.batch_format import MAX_ANSWER_BYTES, Splitter, split

TEXT = st.lists(st.sampled_from([b"a", b"\n", b"{}", b"\r", b"\xff", b"\n\n"]), max_size=40).map(b"".join)


@given(TEXT, st.lists(st.integers(0, 60), max_size=20))
def test_chunks_have_the_lines_of_their_concatenation(data, cuts):
    splitter = Splitter()
    positions = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[begin:end] for begin, end in itertools.pairwise(positions)]
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]

    assert data.split(b"\n")[:-1] == lines


@given(st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line), max_size=9))
def test_a_newline_at_the_end_of_a_batch_starts_no_further_line(lines):
    assert lines == list(split(b"".join(line + b"\n" for line in lines)))


@given(st.lists(st.binary(max_size=9).filter(lambda line: b"\n" not in line), min_size=1, max_size=9))
def test_the_last_line_of_a_batch_may_have_no_newline(lines):
    expected = lines if lines[-1] else lines[:-1]

    assert expected == list(split(b"\n".join(lines)))


def test_a_response_line_of_the_maximum_length_is_accepted_and_a_longer_one_is_not():
    splitter = Splitter()
    assert [] == list(splitter.feed(b"x" * MAX_ANSWER_BYTES))
    assert [b"x" * MAX_ANSWER_BYTES] == list(splitter.feed(b"\n"))
    assert [] == list(splitter.feed(b"x" * MAX_ANSWER_BYTES))
    with pytest.raises(ValueError, match="longer than"):
        splitter.feed(b"x")
