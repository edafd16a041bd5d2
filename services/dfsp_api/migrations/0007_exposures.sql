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
-- exposure is the sum in the table exposure, minus the rows whose `until` is over. The next reservation deletes these
-- rows.
CREATE TABLE exposure_entry (
    caller text NOT NULL,
    currency_code text NOT NULL,
    until timestamptz NOT NULL,
    uuid uuid NOT NULL,
    amount numeric NOT NULL,
    PRIMARY KEY (caller, currency_code, until, uuid)
);
-- Nearly all its rows are deleted within minutes.
ALTER TABLE exposure_entry SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Decides which quotes of a batch fit the limits, one after the other, and counts them. Pair p of caller and currency
-- is callers[p], currencies[p] and its limits, NULL for none; item i of the batch is uuids[i] and has the pair
-- pairs[i]. The statement that calls this function stores the quotes that are admitted, and their entries. Each
-- statement in it sees what was committed before it, so also what was committed while the first one waited for its
-- locks. The rows are locked in order, so that two batches do not deadlock. A quote that is stored already is left
-- out. The function returns no rows if the namespace has another secret, or if a pair has no row in exposure.
-- enable_seqscan: a plan that was made for an empty table would read the whole table when it has grown.
-- enable_bitmapscan: a plain scan marks dead entries of the index, so that later scans skip them. plan_cache_mode: to
-- plan these statements takes longer than to execute them.
CREATE FUNCTION admit_to_exposure(namespace bytea, callers text[], currencies text[], sum_limits numeric[],
    count_limits bigint[], uuids uuid[], pairs integer[], amounts numeric[], lifetimes interval[])
RETURNS TABLE (item bigint, is_admitted boolean, created timestamptz, expires timestamptz, sum_before numeric,
    count_before bigint)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    clock timestamptz;
    is_ours boolean;
    known uuid[];
    sums numeric[];
    counts bigint[];
    swept timestamptz[];
    has_due boolean;
    due_sum numeric;
    due_count bigint;
    kept_sum numeric;
    kept_count bigint;
    kept_expired bigint;
BEGIN
    SELECT array_agg(l.sum ORDER BY l.p), array_agg(l.count ORDER BY l.p), array_agg(l.swept_until ORDER BY l.p)
    INTO sums, counts, swept
    FROM (
        SELECT e.sum, e.count, e.swept_until, w.p
        FROM unnest(callers, currencies) WITH ORDINALITY AS w (caller, currency_code, p)
        JOIN exposure AS e ON e.caller = w.caller AND e.currency_code = w.currency_code
        ORDER BY e.caller, e.currency_code FOR NO KEY UPDATE OF e
    ) AS l;
    clock := clock_timestamp();
    SELECT EXISTS (SELECT FROM namespace AS n WHERE n.secret = $1),
        ARRAY(SELECT q.uuid FROM quote AS q WHERE q.uuid = ANY (uuids))
    INTO is_ours, known;
    IF NOT is_ours OR cardinality(callers) > coalesce(cardinality(sums), 0) THEN
        RETURN;
    END IF;
    created := date_trunc('milliseconds', clock);
    FOR p IN 1 .. cardinality(callers) LOOP
        SELECT EXISTS (
            SELECT FROM exposure_entry AS s
            WHERE s.caller = callers[p] AND s.currency_code = currencies[p] AND s.until = '-infinity'
        ) OR EXISTS (
            SELECT FROM exposure_entry AS s
            WHERE s.caller = callers[p] AND s.currency_code = currencies[p] AND s.until > swept[p] AND s.until <= clock
        ) INTO has_due;
        kept_sum := 0;
        kept_count := 0;
        kept_expired := 0;
        IF has_due THEN
            -- SKIP LOCKED: an execution in progress may hold the lock of an entry. A later batch takes that entry off.
            -- LIMIT bounds the time of one batch if very many quotes end at once. The limit is large, because each of the
            -- next batches reads the remaining ended entries again.
            WITH d AS (
                SELECT s.ctid, s.amount, s.until FROM exposure_entry AS s
                WHERE s.caller = callers[p] AND s.currency_code = currencies[p] AND s.until = '-infinity'
                UNION ALL
                SELECT s.ctid, s.amount, s.until FROM exposure_entry AS s
                WHERE s.caller = callers[p] AND s.currency_code = currencies[p]
                    AND s.until > swept[p] AND s.until <= clock
            ), g AS (
                DELETE FROM exposure_entry AS e WHERE e.ctid = ANY (ARRAY(
                    SELECT s.ctid FROM exposure_entry AS s
                    WHERE s.ctid = ANY (ARRAY(SELECT d.ctid FROM d LIMIT 20000)) FOR UPDATE SKIP LOCKED
                ))
                RETURNING e.amount, e.until
            )
            SELECT d.sum, d.count, d.sum - g.sum, d.count - g.count, d.expired - g.expired
            INTO due_sum, due_count, kept_sum, kept_count, kept_expired
            FROM (
                SELECT coalesce(sum(d.amount), 0) AS sum, count(*) AS count,
                    count(*) FILTER (WHERE d.until > '-infinity') AS expired
                FROM d
            ) AS d, (
                SELECT coalesce(sum(g.amount), 0) AS sum, count(*) AS count,
                    count(*) FILTER (WHERE g.until > '-infinity') AS expired
                FROM g
            ) AS g;
            sums[p] := sums[p] - due_sum;
            counts[p] := counts[p] - due_count;
        END IF;
        IF kept_expired = 0 AND clock > swept[p] THEN
            swept[p] := clock;
        END IF;
        FOR i IN 1 .. cardinality(uuids) LOOP
            CONTINUE WHEN pairs[i] <> p OR uuids[i] = ANY (known);
            item := i;
            sum_before := sums[p];
            count_before := counts[p];
            is_admitted := coalesce(sum_before + amounts[i] <= sum_limits[p], true)
                AND coalesce(count_before < count_limits[p], true);
            IF is_admitted THEN
                expires := date_trunc('milliseconds', clock + lifetimes[i]);
                known := known || uuids[i];
                sums[p] := sums[p] + amounts[i];
                counts[p] := counts[p] + 1;
                -- the clock of the database may have been set back
                swept[p] := least(swept[p], expires - interval '1 ms');
            END IF;
            RETURN NEXT;
        END LOOP;
        UPDATE exposure AS e
        SET sum = sums[p] + kept_sum, count = counts[p] + kept_count, swept_until = swept[p]
        WHERE e.caller = callers[p] AND e.currency_code = currencies[p];
    END LOOP;
END
$$;

-- Marks the entries of quotes that were executed or released. It is a function, so that it also sees an entry that was
-- committed while the statement that calls it waited for a lock.
CREATE FUNCTION free_exposure(callers text[], currencies text[], expires timestamptz[], uuids uuid[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    UPDATE exposure_entry AS e SET until = '-infinity'
    FROM unnest(callers, currencies, expires, uuids) AS f (caller, currency_code, until, uuid)
    WHERE (e.caller, e.currency_code, e.until, e.uuid) = (f.caller, f.currency_code, f.until, f.uuid);
    RETURN 0;
END
$$;
