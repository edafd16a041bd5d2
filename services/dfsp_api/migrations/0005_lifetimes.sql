-- The lifetime that the reservation asked for in X-Quote-Lifetime-Ms; NULL: none, so the payee's default applied. It is
-- part of what an idempotency key stands for.
ALTER TABLE quote ADD COLUMN lifetime_ms bigint;
