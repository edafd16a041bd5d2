"""The setting with the key of the audit log: the key that signs, and earlier keys. Pure: no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dfsp_api.audit.note import NoteError, SigningKey, VerifierKey, signing_key, verifier_key


@dataclass(frozen=True)
class AuditKeys:
    """The key that signs, and all keys that have signed checkpoints of this log."""

    signer: SigningKey = field(repr=False)
    verifiers: Sequence[VerifierKey]


def audit_keys(text: str) -> AuditKeys:
    """Return the keys of a setting: one a line; the first signs, the others are earlier keys of the same log.

    An earlier key may be a signing key or a verifier's key. Raises NoteError, whose message has no secret.
    """
    lines = text.split()
    if not lines:
        raise NoteError("there is no key")
    signer = signing_key(lines[0])
    earlier = [
        signing_key(line).verifier if line.startswith("PRIVATE+") else verifier_key(line)
        for line in lines[1:]
    ]
    others = [key.name for key in earlier if key.name != signer.verifier.name]
    if others:
        raise NoteError(
            f"all keys must have the name {signer.verifier.name}, but one has the name {others[0]}"
        )
    return AuditKeys(signer, [signer.verifier, *earlier])
