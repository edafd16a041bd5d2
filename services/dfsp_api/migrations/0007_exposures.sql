-- For callers with an exposure limit: the sum and the number of the rows of exposure_entry for one caller and currency.
-- A transaction that reserves for them locks this row first. For other callers both tables stay empty. No entry has an
-- `until` up to `swept_until`, apart from -infinity: without it each search would read the dead entries of an index.
CREATE TABLE exposure (
    caller text NOT NULL,
    currency_code text NOT NULL,
    sum numeric NOT NULL DEFAULT 0,
    count bigint NOT NULL DEFAULT 0,
    swept_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (caller, currency_code)
) WITH (fillfactor = 10);

-- One row for each quote that counts. `until` is its `expires`, and -infinity once it is executed or released. So the
-- exposure is the sum in exposure without the rows whose `until` has come. The next reservation takes these rows off.
CREATE TABLE exposure_entry (
    caller text NOT NULL,
    currency_code text NOT NULL,
    until timestamptz NOT NULL,
    uuid uuid NOT NULL,
    amount numeric NOT NULL,
    PRIMARY KEY (caller, currency_code, until, uuid)
);

-- Decides which quotes of a batch fit the limits, one after the other, and counts them. Pair p of caller and currency is
-- callers[p], currencies[p] and its limits, NULL for none; item i of the batch is uuids[i] and has the pair pairs[i]. The statement that
-- calls this function stores the quotes that are admitted, and their entries. Each statement in it sees what was committed
-- before it, so also what was committed while the first one waited for its locks. The rows are locked in order, so that
-- two batches do not deadlock. A quote that is stored already is left out. There is no result if the database has another
-- secret, or if a pair has no row in exposure.
-- enable_seqscan: a plan that was made for an empty table would read the whole table when it has grown.
CREATE FUNCTION admit_to_exposure(namespace bytea, callers text[], currencies text[], sum_limits numeric[],
    count_limits bigint[], uuids uuid[], pairs integer[], amounts numeric[], lifetimes interval[])
RETURNS TABLE (item bigint, is_admitted boolean, created timestamptz, expires timestamptz, sum_before numeric,
    count_before bigint)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    clock timestamptz;
    found bigint;
    known uuid[];
    now_at record;
    gone record;
    due record;
BEGIN
    WITH l AS (
        SELECT FROM exposure AS e
        WHERE (e.caller, e.currency_code) IN (SELECT * FROM unnest(callers, currencies))
        ORDER BY e.caller, e.currency_code FOR NO KEY UPDATE
    )
    SELECT count(*) INTO found FROM l;
    IF found < cardinality(callers) OR NOT EXISTS (SELECT FROM namespace AS n WHERE n.secret = $1) THEN
        RETURN;
    END IF;
    clock := clock_timestamp();
    created := date_trunc('milliseconds', clock);
    SELECT coalesce(array_agg(q.uuid), '{}') INTO known FROM quote AS q WHERE q.uuid = ANY (uuids);
    FOR p IN 1 .. cardinality(callers) LOOP
        SELECT e.sum, e.count, e.swept_until INTO now_at FROM exposure AS e
        WHERE e.caller = callers[p] AND e.currency_code = currencies[p];
        -- SKIP LOCKED: an execution in progress may hold the lock of an entry. A later batch takes that entry off.
        WITH d AS (
            DELETE FROM exposure_entry AS e WHERE e.ctid = ANY (ARRAY(
                SELECT s.ctid FROM exposure_entry AS s
                WHERE s.caller = callers[p] AND s.currency_code = currencies[p] AND s.until = '-infinity'
                LIMIT 1000 FOR UPDATE SKIP LOCKED
            ) || ARRAY(
                SELECT s.ctid FROM exposure_entry AS s
                WHERE s.caller = callers[p] AND s.currency_code = currencies[p]
                    AND s.until > now_at.swept_until AND s.until <= clock
                LIMIT 1000 FOR UPDATE SKIP LOCKED
            ))
            RETURNING e.amount
        )
        SELECT coalesce(sum(d.amount), 0) AS sum, count(*) AS count INTO gone FROM d;
        SELECT coalesce(sum(e.amount), 0) AS sum, count(*) AS count,
            count(*) FILTER (WHERE e.until > '-infinity') AS later INTO due
        FROM (
            SELECT s.until, s.amount FROM exposure_entry AS s
            WHERE s.caller = callers[p] AND s.currency_code = currencies[p] AND s.until = '-infinity'
            UNION ALL
            SELECT s.until, s.amount FROM exposure_entry AS s
            WHERE s.caller = callers[p] AND s.currency_code = currencies[p]
                AND s.until > now_at.swept_until AND s.until <= clock
        ) AS e;
        now_at.sum := now_at.sum - gone.sum - due.sum;
        now_at.count := now_at.count - gone.count - due.count;
        IF due.later = 0 AND clock > now_at.swept_until THEN
            now_at.swept_until := clock;
        END IF;
        FOR i IN 1 .. cardinality(uuids) LOOP
            CONTINUE WHEN pairs[i] <> p OR uuids[i] = ANY (known);
            item := i;
            sum_before := now_at.sum;
            count_before := now_at.count;
            is_admitted := coalesce(sum_before + amounts[i] <= sum_limits[p], true)
                AND coalesce(count_before < count_limits[p], true);
            IF is_admitted THEN
                expires := date_trunc('milliseconds', clock + lifetimes[i]);
                known := known || uuids[i];
                now_at.sum := now_at.sum + amounts[i];
                now_at.count := now_at.count + 1;
                -- the clock of the database may have been set back
                now_at.swept_until := least(now_at.swept_until, expires - interval '1 ms');
            END IF;
            RETURN NEXT;
        END LOOP;
        UPDATE exposure AS e
        SET sum = now_at.sum + due.sum, count = now_at.count + due.count, swept_until = now_at.swept_until
        WHERE e.caller = callers[p] AND e.currency_code = currencies[p];
    END LOOP;
END
$$;

-- Marks the entries of quotes that were executed or released. It is a function, so that it also sees an entry that was
-- committed while the statement that calls it waited for a lock.
CREATE FUNCTION free_exposure(callers text[], currencies text[], expires timestamptz[], uuids uuid[]) RETURNS bigint
LANGUAGE sql VOLATILE SET enable_seqscan = off AS $$
    WITH freed AS (
        UPDATE exposure_entry AS e SET until = '-infinity'
        FROM unnest(callers, currencies, expires, uuids) AS f (caller, currency_code, until, uuid)
        WHERE (e.caller, e.currency_code, e.until, e.uuid) = (f.caller, f.currency_code, f.until, f.uuid)
        RETURNING 1
    )
    SELECT count(*) FROM freed
$$;
