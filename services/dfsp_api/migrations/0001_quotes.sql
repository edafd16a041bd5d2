-- The secret from which uuids are made: without it nobody can guess the uuid of another caller's key.
CREATE TABLE namespace (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);
INSERT INTO namespace (secret)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- The uuid is made from caller and key, so the primary key alone guarantees one quote for each key.
-- Retention reduces an expired quote that was never executed to a stub: request and amounts are NULL.
CREATE TABLE quote (
    uuid uuid PRIMARY KEY,
    caller text NOT NULL,
    operation text NOT NULL,
    fingerprint bytea NOT NULL,
    request json,
    source_amount numeric,
    destination_amount numeric,
    created timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    executed timestamptz CHECK (executed < expires),
    CHECK (source_amount >= destination_amount AND destination_amount > 0),
    CHECK (executed IS NULL OR request IS NOT NULL)
) WITH (fillfactor = 90);

-- For retention alone. Quotes are written in the order of their expiry, so a summary of each range of pages is enough.
-- It costs next to nothing to maintain, and an execution still changes only the page of its row.
CREATE INDEX quote_expires ON quote USING brin (expires);

-- The progress of retention: each quote that expired before this and was never executed is a stub.
CREATE TABLE retention (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    swept_until timestamptz NOT NULL
);
INSERT INTO retention (swept_until) VALUES (now());
