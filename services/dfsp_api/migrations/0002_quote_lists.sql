-- For lists of quotes, newest first: of one caller, and of all callers. New quotes go to the ends of both indexes, so that
-- a reservation costs little more. They have no column that an execution changes.
-- IF NOT EXISTS: on a large table an operator creates them CONCURRENTLY before the update (docs/configuration.md).
CREATE INDEX IF NOT EXISTS quote_caller_created ON quote (caller, created, uuid);
CREATE INDEX IF NOT EXISTS quote_created ON quote (created, uuid);
