-- The namespace that makes uuids: whoever does not know it cannot guess the uuid of another's key.
CREATE TABLE namespace (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    secret bytea NOT NULL CHECK (length(secret) = 32)
);
INSERT INTO namespace (secret)
VALUES (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

-- The primary key alone holds "one key, one quote": the uuid is made from caller and key.
-- What a stub has lost is NULL: request and terms of an expired quote that was never executed.
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

-- For retention alone. Quotes are written in the order of their expiry, so a summary of each range of pages
-- is enough, costs next to nothing to keep, and leaves executing a quote a change within its page.
CREATE INDEX quote_expires ON quote USING brin (expires);

-- How far retention has come: no unexecuted quote that expired before this has its terms.
CREATE TABLE retention (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    swept_until timestamptz NOT NULL
);
INSERT INTO retention (swept_until) VALUES (now());
