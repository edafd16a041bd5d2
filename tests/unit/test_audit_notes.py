"""Signed notes, keys and checkpoints against the published examples."""

import pytest

from dfsp_api.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from dfsp_api.audit.merkle import EMPTY_ROOT, leaf_hash
from dfsp_api.audit.note import NoteError, SigningKey, open_note, signing_key, verifier_key

# the example in the documentation of golang.org/x/mod/sumdb/note
SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# the example of C2SP's signed-note
SPEC_VERIFIER = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n— example.com/foo"
    " Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def test_the_published_key_signs_the_published_note():
    key = signing_key(SIGNER)

    assert NOTE == key.sign(TEXT)
    assert VERIFIER == str(key.verifier)
    assert SIGNER == key.secret_text


@pytest.mark.parametrize(("key", "note"), [(VERIFIER, NOTE), (SPEC_VERIFIER, SPEC_NOTE)])
def test_the_published_notes_verify(key, note):
    assert note.startswith(open_note(note, [verifier_key(key)]) + "\n")


def test_signatures_of_other_keys_are_ignored():
    other = SigningKey.generate("example.com/other")
    both = NOTE + other.sign(TEXT).removeprefix(TEXT + "\n")

    assert TEXT == open_note(both, [verifier_key(VERIFIER)])
    assert TEXT == open_note(both, [other.verifier])


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("your problem,", "your problem."),
        NOTE.removesuffix("\n"),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("x08go", "x08gp"),
        NOTE.replace("nAM=", "nAN="),  # the same bytes in another text
        NOTE.replace("PeterNeumann", "Peter Neumann"),
        NOTE.replace("— ", "- "),
        TEXT,
        "",
        NOTE + "— PeterNeumann AAAA\n" * 16,
    ],
)
def test_a_note_that_was_changed_does_not_verify(note):
    with pytest.raises(NoteError):
        open_note(note, [verifier_key(VERIFIER)])


def test_each_changed_bit_of_a_note_is_found():
    key, note = verifier_key(VERIFIER), NOTE.encode()
    for bit in range(len(note) * 8):
        changed = bytearray(note)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            text = changed.decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises(NoteError):
            open_note(text, [key])


@pytest.mark.parametrize(
    "key",
    [
        "",
        "PeterNeumann",
        VERIFIER.replace("c74f20a3", "c74f20a4"),
        VERIFIER[:-4],
        VERIFIER.replace("+ARpc", "+AhpC"),
        VERIFIER.replace("PeterNeumann", "Peter Neumann"),
        SIGNER,
    ],
)
def test_a_malformed_verifier_key_is_refused(key):
    with pytest.raises(NoteError):
        verifier_key(key)


def test_an_error_does_not_show_the_signing_key():
    with pytest.raises(NoteError) as raised:
        signing_key(SIGNER.replace("c74f20a3", "00000000"))

    assert "AYEKFALV" not in str(raised.value)
    assert "AYEKFALV" not in repr(signing_key(SIGNER))


def test_a_checkpoint_has_the_three_lines_of_the_specification():
    key = SigningKey.generate("example.com/quotes")
    note = sign_checkpoint(key, 0, EMPTY_ROOT)

    assert ["example.com/quotes", "0", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", ""] == note.split(
        "\n"
    )[:4]
    assert Checkpoint("example.com/quotes", 0, EMPTY_ROOT) == open_checkpoint(note, [key.verifier])


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        "origin\n01\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "origin\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "origin\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        "origin\n1\n47DEQpj8HBSa\n",
        "\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(text):
    key = SigningKey.generate("origin")
    with pytest.raises(NoteError):
        open_checkpoint(key.sign(text), [key.verifier])


def test_a_leaf_is_hashed_with_its_prefix():
    assert "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" == leaf_hash(b"").hex()
