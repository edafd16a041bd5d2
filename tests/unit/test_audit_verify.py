"""`verify_export` names the place of every change in an export."""

import hashlib
import io
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from dfsp_api.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from dfsp_api.audit.entry import differences, is_stub_of
from dfsp_api.audit.export_format import (
    ABSENT,
    FORMAT,
    SAME,
    STUB,
    CheckpointRow,
    EndRow,
    HeaderRow,
    LeafRow,
    UnloggedRow,
    decode_row,
    encode_row,
)
from dfsp_api.audit.merkle import CompactTree, leaf_hash
from dfsp_api.audit.note import SigningKey
from dfsp_api.audit.verify import MAX_FINDING_CHARACTERS, MAX_FINDINGS, verify_export
from dfsp_api.stored_quote import QuoteEvent, StoredQuote
from support.audit_entry import as_stub, entry_of, events_of
from support.messages import QUOTE

KEY = SigningKey("example.com/quotes", bytes(range(32)))
KEYS = [KEY.verifier]
AT = datetime(2026, 11, 21, 2, 18, 51, 99_000, UTC)


def quote(number: int, **other: object) -> StoredQuote:
    stored = StoredQuote(
        uuid=UUID(int=number),
        caller="alice",
        operation="quoteSourceAmount",
        fingerprint=bytes(32),
        request=QUOTE,
        source_amount=Decimal("13.75"),
        destination_amount=Decimal("12.50"),
        created=AT,
        expires=AT + timedelta(minutes=5),
        executed=AT + timedelta(seconds=1) if number % 3 == 0 else None,
        released=AT + timedelta(seconds=1) if number % 3 == 1 else None,
        schedule=-7,
        lifetime_ms=None,
        is_expired=False,
    )
    return msgspec.structs.replace(stored, **other)


CONTENTS = [entry_of(each, event) for each in map(quote, range(7)) for event in events_of(each)]


def export_of(contents, *, sign_at=(0, 4, 7), key=KEY, tables=None, hashes=None):
    """Return the rows of an export. `hashes` replaces hashes of leaves by position, `tables` their tables."""
    tree, rows = CompactTree(), [HeaderRow(1, FORMAT, "example.com/quotes", len(contents))]

    def sign():
        rows.append(CheckpointRow(len(rows) + 1, sign_checkpoint(key, tree.size, tree.root)))

    if 0 in sign_at:
        sign()
    for position, content in enumerate(contents):
        leaf = (hashes or {}).get(position, leaf_hash(content.encode()))
        tree.add(leaf)
        table = (tables or {}).get(position, SAME)
        rows.append(LeafRow(len(rows) + 1, position, leaf.hex(), content, table))
        if tree.size in {*sign_at, len(contents)}:
            sign()
    rows.append(EndRow(len(rows) + 1))
    return rows


def lines_of(rows):
    return [encode_row(each) for each in rows]


def renumbered(rows):
    return [msgspec.structs.replace(each, row=number) for number, each in enumerate(rows, 1)]


def verify(lines, kept=(), keys=KEYS):
    return verify_export(io.BytesIO(b"".join(lines)), keys, kept)


ROWS = export_of(CONTENTS)
LINES = lines_of(ROWS)


def places(verdict):
    return [each.line for each in verdict.findings]


def test_an_unchanged_export_is_good():
    verdict = verify(LINES)

    assert verdict.is_good, verdict.findings
    assert (len(CONTENTS), 4, 0) == (verdict.leaves, verdict.checkpoints, verdict.without_content)


def test_an_export_of_an_empty_log_is_good():
    assert verify(lines_of(export_of([]))).is_good


def test_each_flipped_bit_is_found_in_its_line():
    """Thousands of bits, each flipped alone."""
    chance, lines = random.Random(1), lines_of(export_of(CONTENTS[:3], sign_at=(2,)))
    for number, line in enumerate(lines):
        bits = range(len(line) * 8)
        for bit in chance.sample(bits, 2_000 if number == 1 else 100):
            damaged = bytearray(line)
            damaged[bit // 8] ^= 1 << bit % 8
            verdict = verify([*lines[:number], bytes(damaged), *lines[number + 1 :]])
            assert number + 1 == places(verdict)[0], (number, bit)


def test_each_removed_row_is_found():
    for number in range(len(LINES)):
        verdict = verify([*LINES[:number], *LINES[number + 1 :]])
        assert number + 1 == places(verdict)[0]


def test_each_inserted_row_is_found():
    for number in range(len(LINES) + 1):
        for line in LINES:
            verdict = verify([*LINES[:number], line, *LINES[number:]])
            assert places(verdict)[0] in {number + 1, number + 2}


def test_each_swap_of_two_rows_is_found():
    for one in range(len(LINES)):
        for other in range(one + 1, len(LINES)):
            swapped = [*LINES]
            swapped[one], swapped[other] = LINES[other], LINES[one]
            assert one + 1 == places(verify(swapped))[0]


def test_a_forger_who_corrects_the_numbers_and_sums_is_found_by_the_tree():
    """Thousands of changes, after each of which the rows are numbered and summed anew."""
    for number in range(len(ROWS)):
        assert not verify(lines_of(renumbered([*ROWS[:number], *ROWS[number + 1 :]]))).is_good or isinstance(
            ROWS[number], CheckpointRow
        )
        for other in range(len(ROWS)):
            if number == other:
                continue
            swapped = [*ROWS]
            swapped[number], swapped[other] = ROWS[other], ROWS[number]
            assert not verify(lines_of(renumbered(swapped))).is_good
            inserted = [*ROWS[:number], ROWS[other], *ROWS[number:]]
            assert not verify(lines_of(renumbered(inserted))).is_good


def test_a_changed_term_is_named_with_its_leaf_and_quote():
    rows = [*ROWS]
    place = next(number for number, row in enumerate(rows) if isinstance(row, LeafRow) and row.position == 5)
    content = rows[place].content.replace("13.75", "13.70")
    rows[place] = msgspec.structs.replace(rows[place], content=content)
    verdict = verify(lines_of(rows))

    assert place + 1 == places(verdict)[0]
    assert (
        "leaf 5 (RESERVED of quote 00000000-0000-0000-0000-000000000003) was changed"
        in verdict.findings[0].text
    )


def test_a_changed_term_with_a_new_hash_is_found_between_two_checkpoints():
    content = CONTENTS[5].replace("13.75", "13.70")
    rows = [*ROWS]
    place = next(number for number, row in enumerate(rows) if isinstance(row, LeafRow) and row.position == 5)
    rows[place] = msgspec.structs.replace(
        rows[place], content=content, hash=leaf_hash(content.encode()).hex()
    )
    (finding,) = verify(lines_of(rows)).findings

    assert "one of the leaves 4 to 6 is not what the checkpoint of size 7 has signed" in finding.text


def test_a_missing_leaf_is_named():
    rows = [each for each in ROWS if not (isinstance(each, LeafRow) and each.position == 5)]
    findings = verify(lines_of(renumbered(rows))).findings

    assert "leaf 5 missing before leaf 6" in findings[0].text


def test_a_history_that_was_rewritten_and_signed_again_differs_from_the_earlier_checkpoints():
    """A forger with the key can sign the later tree again. The earlier checkpoints show the change."""
    forged = [*CONTENTS]
    forged[5] = forged[5].replace("13.75", "13.70")
    old, new = export_of(CONTENTS), export_of(forged)
    kept_in_export = [
        old_row if isinstance(old_row, CheckpointRow) and number < len(old) - 2 else new_row
        for number, (old_row, new_row) in enumerate(zip(old, new, strict=True))
    ]
    (finding,) = verify(lines_of(kept_in_export)).findings
    assert "the history was rewritten: one of the leaves 4 to 6" in finding.text

    assert verify(lines_of(new)).is_good
    kept = [open_checkpoint(old[-2].note, KEYS)]
    (finding,) = verify(lines_of(new), kept).findings
    assert "the history was rewritten" in finding.text


def test_a_kept_checkpoint_of_more_leaves_shows_that_the_end_was_cut_off():
    kept = [Checkpoint("example.com/quotes", len(CONTENTS) + 1, bytes(32))]
    (finding,) = verify(LINES, kept).findings

    assert "fewer leaves than the kept checkpoint" in finding.text


def test_a_wrong_signature_is_named():
    other = SigningKey("example.com/quotes", bytes(32))
    verdict = verify(lines_of(export_of(CONTENTS, key=other)))

    assert 5 == len(verdict.findings)
    assert (
        "the checkpoint after 0 leaves: it has no signature of a key that is trusted"
        in verdict.findings[0].text
    )


def test_both_keys_are_given_after_a_change_of_the_key():
    other = SigningKey("example.com/quotes", bytes(32))
    old, new = export_of(CONTENTS), export_of(CONTENTS, key=other)
    mixed = [*old[:-2], *new[-2:]]

    assert verify(lines_of(mixed), keys=[KEY.verifier, other.verifier]).is_good
    assert not verify(lines_of(mixed)).is_good


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (ABSENT, "no longer in the table"),
        (CONTENTS[5].replace("13.75", "13.70"), "the table has another sourceAmount"),
        (CONTENTS[5].replace("30754016", "30754017"), "the table has another request.identifier"),
        ("nonsense", "the table has another content"),
    ],
)
def test_a_row_that_was_changed_in_the_table_is_named(table, text):
    (finding,) = verify(lines_of(export_of(CONTENTS, tables={5: table}))).findings

    assert text in finding.text
    assert "leaf 5 " in finding.text


def test_a_stub_and_a_leaf_without_content_are_good():
    rows = export_of(CONTENTS, tables={5: STUB})
    rows = [
        msgspec.structs.replace(each, content=None, table=None)
        if isinstance(each, LeafRow) and each.position < 3
        else each
        for each in rows
    ]
    verdict = verify(lines_of(rows))

    assert verdict.is_good, verdict.findings
    assert 3 == verdict.without_content


def test_a_quote_without_a_leaf_is_named():
    rows = [*ROWS[:-1], UnloggedRow(len(ROWS), CONTENTS[0]), EndRow(len(ROWS) + 1)]
    (finding,) = verify(lines_of(rows)).findings

    assert len(ROWS) == finding.line
    assert "no leaf for RESERVED of quote 00000000-0000-0000-0000-000000000000" in finding.text


def test_the_number_of_findings_is_limited():
    verdict = verify([b"nonsense\n"] * 1_000)

    assert MAX_FINDINGS == len(verdict.findings)
    assert 900 < verdict.more


def test_any_bytes_are_no_export():
    chance = random.Random(3)
    for length in (0, 1, 100, 300_000):
        assert not verify([chance.randbytes(length)]).is_good


def test_rows_are_json_lines():
    for row, line in zip(ROWS, LINES, strict=True):
        decoded = msgspec.json.decode(line)
        assert row.row == decoded["row"]
        assert row == decode_row(line)


def test_a_content_is_canonical():
    content = CONTENTS[0]

    assert content == msgspec.json.encode(msgspec.json.decode(content), order="sorted").decode()
    assert " " not in content


def test_a_stub_has_what_the_leaf_says_but_the_terms():
    reserved = quote(2)
    content = entry_of(reserved, QuoteEvent.RESERVED)

    assert is_stub_of(entry_of(as_stub(reserved), QuoteEvent.RESERVED), content)
    assert not is_stub_of(content, content)
    assert not is_stub_of(entry_of(as_stub(quote(2, caller="mallory")), QuoteEvent.RESERVED), content)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("caller", {"caller": "mallory"}),
        ("expires", {"expires": AT + timedelta(minutes=5, microseconds=1)}),
        ("sourceAmount", {"source_amount": Decimal("13.750")}),
        ("executed", {"executed": None}),
        ("request.identifier", {"request": {**QUOTE, "identifier": "1"}}),
        ("schedule", {"schedule": 7}),
        ("lifetimeMs", {"lifetime_ms": 1}),
        ("fingerprint", {"fingerprint": bytes(31) + b"1"}),
    ],
)
def test_each_changed_column_is_a_difference(name, other):
    logged, now = entry_of(quote(3), QuoteEvent.EXECUTED), entry_of(quote(3, **other), QuoteEvent.EXECUTED)

    assert [name] == differences(logged, now)


def leaf_line(position: bytes, content: bytes = b"null") -> bytes:
    """Return the line of a leaf with the right sum, and with parts that `encode_row` does not write."""
    return with_sum(
        b'{"type":"leaf","row":2,"position":%b,"hash":"%b","content":%b,"table":null}'
        % (position, b"0" * 64, content)
    )


def with_sum(text: bytes) -> bytes:
    digits = hashlib.sha256(text[:-1]).hexdigest()[:16]
    return text[:-1] + f',"sum":"{digits}"}}\n'.encode()


@pytest.mark.parametrize(
    "position", [b"9223372036854775807", b"9223372036854775808", b"1" + b"0" * 4999, b"-1"]
)
def test_a_position_may_be_any_number(position):
    verdict = verify([LINES[0], leaf_line(position)])

    assert 2 == places(verdict)[0]


@pytest.mark.parametrize(
    "end",
    [
        b'{"type":"end","row":1,"row":%d}',
        b'{"row":%d,"type":"end"}',
        b'{"type":"end", "row":%d}',
        b'{"type":"end","row":0%d}',
        b'{"type":"\\u0065nd","row":%d}',
    ],
)
def test_a_row_in_another_form_is_found(end):
    """A key that is there twice would give each reader another row."""
    verdict = verify([*LINES[:-1], with_sum(end % len(LINES))])

    assert len(LINES) == places(verdict)[0]


@pytest.mark.parametrize("change", ["shift", "upper", "space"])
def test_hashes_that_are_written_in_another_way_are_found(change):
    """The bytes of two neighbours that are not 32 each can have the same root."""
    contents = CONTENTS[:2]
    one, two = (leaf_hash(each.encode()).hex() for each in contents)
    pair = {
        "shift": (one + two[:2], two[2:]),
        "upper": (one.upper(), two),
        "space": (f"{one[:2]} {one[2:]}", two),
    }[change]
    hashes = dict(enumerate(pair))
    rows = [
        msgspec.structs.replace(each, content=None, table=None, hash=hashes[each.position])
        if isinstance(each, LeafRow)
        else each
        for each in export_of(contents, sign_at=())
    ]
    verdict = verify(lines_of(rows))

    assert 2 == places(verdict)[0]


def test_a_content_that_was_removed_by_hand_is_found():
    """Contents are removed after their time, from the first leaf on."""
    rows = [
        msgspec.structs.replace(each, content=None, table=None)
        if isinstance(each, LeafRow) and each.position == 5
        else each
        for each in ROWS
    ]
    (finding,) = verify(lines_of(rows)).findings

    assert "leaf 5 has no content, but an earlier leaf has" in finding.text


def test_contents_that_are_nested_deeply_are_compared():
    """The parser accepts more levels than a comparison can have."""
    content = '{"a":' + "[" * 1_020 + "]" * 1_020 + "}"
    verdict = verify(lines_of(export_of([content], tables={0: f"{content} "})))

    assert "the table has another content" in verdict.findings[0].text


def test_a_long_line_is_one_line_and_its_text_is_cut():
    lines = [
        LINES[0],
        with_sum(b'{"type":"end","row":2,"%b":0}' % (b"x" * 200_000)),
        b"x" * 1_000_000 + b"\n",
    ]
    contents = [f'{{"{"x" * 100_000}":1}}']
    verdict = verify([*lines, *lines_of(export_of(contents, tables={0: '{"y":1}'}))])

    assert [2, 3, 4] == places(verdict)[:3]
    assert all(len(each.text) <= MAX_FINDING_CHARACTERS for each in verdict.findings)
