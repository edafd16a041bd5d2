-- Every fee schedule that has priced a quote. The number is the first eight bytes of the id, which is the SHA-256 of the
-- schedule's canonical form. So no statement has to read a number before it can store a quote.
CREATE TABLE fee_schedule (
    number bigint PRIMARY KEY,
    id bytea NOT NULL CHECK (length(id) = 32),
    since timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now()),
    rules json NOT NULL
);

-- The number of the schedule that priced the quote; NULL in quotes that are older than this column. It is no foreign key:
-- the check would lock the one row of the schedule for each quote.
ALTER TABLE quote ADD COLUMN schedule bigint;
