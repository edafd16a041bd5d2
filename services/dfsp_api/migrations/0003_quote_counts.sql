-- The numbers of quotes by state, for metrics. The quotes that expired before `settled_until` cannot change any more, so
-- they are counted once, in the columns settled_*. The others are counted again each time.
CREATE TABLE quote_count (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    settled_until timestamptz NOT NULL,
    settled_executed bigint NOT NULL DEFAULT 0,
    settled_expired bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0,
    executed bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0,
    counted timestamptz,
    seconds double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
-- A new database has no quotes to count from the beginning.
INSERT INTO quote_count (settled_until)
SELECT CASE WHEN EXISTS (SELECT FROM quote) THEN '2000-01-01 00:00:00+00'::timestamptz ELSE now() END;

-- Without autosummarize, each count and each sweep reads all pages that were written since the last vacuum.
ALTER INDEX quote_expires SET (autosummarize = on);
