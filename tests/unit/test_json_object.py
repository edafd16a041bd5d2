"""JSON objects are read and written again without a change to any value (chassis.json_object)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import InvalidBodyError
from chassis.json_object import Literal, appended, flat, members, require_unique_keys, without_last, write

TEXT = st.text(alphabet=st.characters())  # lone surrogates included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=6)
BLANKS = st.text(alphabet=" \t\r\n", max_size=3)


def fault(body: bytes) -> tuple[str, str]:
    with pytest.raises(InvalidBodyError) as raised:
        members(body)
    [first, *_] = raised.value.faults
    return first.key, first.message


@given(content=OBJECTS, indent=st.sampled_from([None, 1]))
def test_an_object_that_is_written_again_has_the_same_content(content, indent):
    body = json.dumps(content, indent=indent).encode()

    assert content == json.loads(write(members(body)))


@given(
    content=st.dictionaries(
        st.text(alphabet="ab", max_size=2), st.text(alphabet="0123456789.eE+-", min_size=1)
    )
)
def test_every_number_keeps_its_text(content):
    """12.50 and 1e2 do not become what a float makes of them."""
    numbers = {key: raw for key, raw in content.items() if _is_number(raw)}
    body = ("{" + " , ".join(f'"{key}" : {raw}' for key, raw in numbers.items()) + "}").encode()

    found = members(body)

    assert list(numbers.values()) == [each.raw for each in found]
    assert all(isinstance(each.value, Literal) and str(each.value) == each.raw for each in found)
    assert [each.raw for each in found] == [each.raw for each in members(write(found))]


def _is_number(raw: str) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


@given(content=OBJECTS)
def test_an_object_that_is_written_twice_stays_the_same(content):
    once = write(members(json.dumps(content).encode()))

    assert once == write(members(once))


@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_an_object_or_an_error(body):
    try:
        found = members(body)
    except InvalidBodyError as error:
        refused = error.faults
    else:
        refused = ()
        assert {each.key for each in found} == set(json.loads(body))

    assert refused or isinstance(json.loads(body), dict)


@given(content=OBJECTS, a=BLANKS, b=BLANKS)
def test_white_space_around_an_object_does_not_matter(content, a, b):
    body = (a + json.dumps(content, ensure_ascii=True) + b).encode()

    assert list(content) == [each.key for each in members(body)]


@given(content=OBJECTS, a=BLANKS, b=BLANKS, value=st.text())
def test_an_appended_member_leaves_the_other_text_unchanged(content, a, b, value):
    content.pop("submissionUrl", None)
    body = (a + json.dumps(content) + b).encode()
    value = value.encode("utf-8", "replace").decode()

    longer = appended(body, "submissionUrl", value)

    assert {**content, "submissionUrl": value} == json.loads(longer)
    assert body.rstrip()[:-1].rstrip() == longer[: len(body.rstrip()[:-1].rstrip())]


@given(content=OBJECTS, value=st.text())
def test_an_appended_member_can_be_removed_again(content, value):
    content.pop("submissionUrl", None)
    value = value.encode("utf-8", "replace").decode()
    body = json.dumps({"a": "b", **content}).encode()

    assert body == without_last(appended(body, "submissionUrl", value), "submissionUrl", value)
    assert without_last(body, "submissionUrl", value) is None


@given(
    body=st.one_of(
        OBJECTS.map(lambda o: json.dumps(o, ensure_ascii=False).encode("utf-8", "replace")), st.binary()
    )
)
def test_the_fast_path_finds_the_same_as_the_scanner(body):
    found = flat(body)

    if found is not None:
        assert list(found.items()) == [(each.key, each.value) for each in members(body)]


@pytest.mark.parametrize(
    "body", [b'{"a":"1","a":"2"}', b'{"a":1}', b'{"a":"\\u0041"}', b'{"a":["x"]}', b"{", b"[]"]
)
def test_the_fast_path_leaves_other_objects_to_the_scanner(body):
    assert flat(body) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ("body", "is not JSON")),
        (b"nonsense", ("body", "is not JSON")),
        (b"[1]", ("body", "is not a JSON object")),
        (b"[" * 20_000, ("body", "is not JSON")),
        (b'{"a":1} x', ("body", "has further text after the JSON object")),
        (b'{"a":1,"a":2}', ("a", "occurs twice")),
        (b'{"a":1,"\\u0061":2}', ("a", "occurs twice")),
        (b'{"a":"\xff"}', ("a", "is not UTF-8")),
        (b'{"a":["\xff"]}', ("a", "is not UTF-8")),
        (b'{"a":nope}', ("a", "is not JSON")),
        (b'{"a":"\n"}', ("a", "is not JSON")),
        (b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", ("a", "is nested too deeply")),
        (b'{"a":1 "b":2}', ("a", "is not JSON or is followed by text that is not JSON")),
        (b'{"a":1', ("a", "is not JSON or is followed by text that is not JSON")),
        (b'{"a":{"b":1,"b":2}}', ("a", "holds an object in which a key occurs twice")),
        (b'{"a":[{"b":{"c":1,"c":1}}]}', ("a", "holds an object in which a key occurs twice")),
    ],
)
def test_a_fault_names_the_field(body, expected):
    assert expected == fault(body)


def test_each_field_that_occurs_twice_is_named():
    with pytest.raises(InvalidBodyError) as raised:
        members(b'{"a":1,"b":1,"a":2,"b":2,"c":"\xff"}')

    assert ["a", "b", "c"] == [each.key for each in raised.value.faults]


def test_an_object_has_at_most_a_hundred_members():
    """To read ten thousand, which 64 KiB can hold, took a tenth of a second."""

    def body(number: int) -> bytes:
        return json.dumps({f"k{key}": "\u00e4" for key in range(number)}).encode()

    assert 100 == len(members(body(100)))
    assert ("body", "has more than 100 members") == fault(body(101))


def test_keys_must_be_unique_at_every_depth():
    require_unique_keys(b'{"a":{"b":1,"a":"\\n"},"b":[{"a":1.5}]}')
    require_unique_keys(b"[" * 300 + b"]" * 300)
    require_unique_keys(b'{"a": {"b": 1}, "b": [{"a": 1}, {"a": NaN}], "c": 1' + b"0" * 5_000 + b"}")
    for body, message in (
        (b'{"a": 1, "a": 1}', "a key occurs twice"),
        (b'{"a":1,"a":1}', "a key occurs twice"),
        (b'[{"b": {"a": 1, "\\u0061": 1}}]', "a key occurs twice"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
    ):
        with pytest.raises(InvalidBodyError, match=message):
            require_unique_keys(body)
