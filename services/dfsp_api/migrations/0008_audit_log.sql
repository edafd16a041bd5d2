-- The audit log (docs/audit.md). Without the setting QUOTES_AUDIT_KEY_FILE nothing writes to these tables.

-- Events that are committed and not yet in the tree: the transaction that changes a quote inserts its event here, and the
-- one that adds the leaf deletes it. So each event becomes exactly one leaf, also after a restore of the database.
-- event: 0 reserved, 1 executed, 2 released.
CREATE TABLE audit_pending (
    uuid uuid NOT NULL,
    event smallint NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX audit_pending_at ON audit_pending (at);
-- Nearly all its rows are deleted within seconds.
ALTER TABLE audit_pending SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- One row for each leaf. content becomes NULL when it is too old; the hash stays in audit_tile.
CREATE TABLE audit_leaf (
    uuid uuid NOT NULL,
    event smallint NOT NULL,
    position bigint NOT NULL,
    content text,
    PRIMARY KEY (uuid, event)
);
CREATE INDEX audit_leaf_position ON audit_leaf (position);

-- The nodes of the tree: up to 256 hashes of level 8 * level, from number 256 * number on.
CREATE TABLE audit_tile (
    number bigint NOT NULL,
    level smallint NOT NULL,
    hashes bytea NOT NULL,
    PRIMARY KEY (number, level)
);

-- The last signed checkpoint, and an earlier one for each minute.
CREATE TABLE audit_checkpoint (
    size bigint PRIMARY KEY,
    signed timestamptz NOT NULL,
    is_kept boolean NOT NULL,
    note text NOT NULL
);

-- Which payee adds leaves, until when, and how far the searches in the table of quotes have come.
CREATE TABLE audit_log (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    holder text NOT NULL DEFAULT '',
    leased_until timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00',
    began timestamptz,
    kept timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00',
    content_from bigint NOT NULL DEFAULT 0,
    checked_created timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00',
    checked_uuid uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    settled_created timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00',
    settled_uuid uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
) WITH (fillfactor = 10);
INSERT INTO audit_log DEFAULT VALUES;
