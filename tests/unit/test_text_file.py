"""Text files that people edit."""

import re

import pytest

from chassis.text_file import TextFileError, read_text


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfone\ntwo\n")

    assert "one\ntwo\n" == read_text(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\ntwo\xff\n", "file, line 2: is not UTF-8"),
        ("one\n".encode("utf-16"), "file, line 1: is not UTF-8"),
        (None, "file cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line_at_fault(tmp_path, content, message):
    if content is not None:
        (tmp_path / "file").write_bytes(content)

    with pytest.raises(TextFileError, match=re.escape(message)):
        read_text(tmp_path / "file")
