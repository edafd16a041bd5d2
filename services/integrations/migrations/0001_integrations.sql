-- Header values and secrets are encrypted; the keys are not in this database.
-- `revision` grows with each change of the secrets: workers then read them again.
CREATE TABLE integration (
    id uuid PRIMARY KEY,
    user_email text NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    image_url text NOT NULL,
    url text NOT NULL,
    headers bytea NOT NULL,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_until timestamptz,
    revision integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'PENDING'
        CHECK (state IN ('PENDING', 'APPROVED', 'PAUSED', 'REJECTED', 'DELETED')),
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CHECK ((failures = 0) = (failing_since IS NULL))
);
CREATE INDEX integration_user ON integration (lower(user_email), created);

CREATE TABLE strategy (
    id text PRIMARY KEY,
    name text NOT NULL,
    user_email text NOT NULL
);
CREATE INDEX strategy_user ON strategy (lower(user_email), id);

-- A lane is (integration, strategy); the one with no strategy, '', carries INTEGRATION_*.
-- Every transaction that changes a lane locks this row first, so the row is always right: the lane has events to send
-- if last_seq > done_seq, and it may be claimed from `due` on, which is the end of a lease or the time of a retry.
-- Locks are taken in this order: integration, lane (by id), the rest.
CREATE TABLE lane (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    integration_id uuid NOT NULL REFERENCES integration ON DELETE CASCADE,
    strategy_id text NOT NULL,
    is_enabled boolean NOT NULL DEFAULT false,
    last_seq bigint NOT NULL DEFAULT 0,
    done_seq bigint NOT NULL DEFAULT 0,
    due timestamptz NOT NULL DEFAULT '-infinity',
    is_held boolean NOT NULL DEFAULT false,
    token bigint NOT NULL DEFAULT 0,
    changes integer NOT NULL DEFAULT 0,
    UNIQUE (integration_id, strategy_id),
    CHECK (done_seq <= last_seq)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX lane_ready ON lane (due) WHERE last_seq > done_seq;
CREATE INDEX lane_strategy ON lane (strategy_id) WHERE is_enabled;

-- An event in its canonical form; versions are rendered when it is sent. An event with `take` 1 replaces the one with
-- `take` 0 in its place. `log` has one entry for each attempt, so the schedule of retries limits its length.
CREATE TABLE event (
    lane_id bigint NOT NULL,
    seq bigint NOT NULL,
    take smallint NOT NULL DEFAULT 0,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    integration_id uuid NOT NULL,
    type text NOT NULL,
    timestamp_ms bigint NOT NULL,
    data text,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'WAITING'
        CHECK (state IN ('WAITING', 'DELIVERED', 'REFUSED', 'FAILED', 'EXPIRED', 'CANCELLED')),
    tries smallint NOT NULL DEFAULT 0,
    first_try timestamptz,
    is_told boolean NOT NULL DEFAULT false,
    replays smallint NOT NULL DEFAULT 0,
    log jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (lane_id, seq, take)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX event_id ON event (id);
CREATE INDEX event_log ON event (integration_id, created, id);

CREATE TABLE signal (
    strategy_id text NOT NULL,
    signal_id text NOT NULL,
    fingerprint bytea NOT NULL,
    events integer NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (strategy_id, signal_id)
);

-- Ids are in the order of commits: an insert holds an advisory lock until the end of its transaction.
CREATE TABLE notification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_email text NOT NULL,
    integration_id uuid NOT NULL,
    event_id uuid,
    type text NOT NULL,
    text text NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX notification_user ON notification (lower(user_email), id);

-- Only for retention.
CREATE INDEX event_created ON event USING brin (created);
CREATE INDEX signal_created ON signal USING brin (created);
CREATE INDEX notification_created ON notification USING brin (created);
