"""The audit log: an append-only Merkle tree of what happened to quotes, with signed checkpoints (docs/audit.md)."""
