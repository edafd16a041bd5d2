-- The lifetime that the reservation asked for in X-Quote-Lifetime-Ms; NULL: none, so the payee's default applied.
-- When an idempotency key is used again, it must be the same.
ALTER TABLE quote ADD COLUMN lifetime_ms bigint;
