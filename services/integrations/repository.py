"""SQL statements for the operations of partners and users on integrations and strategies."""

from typing import Final

INSERT_INTEGRATION: Final = """
INSERT INTO integration (id, user_email, name, description, image_url, url, headers, secret)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

COUNT_BY_STATE: Final = (
    "SELECT count(*) FROM integration WHERE lower(user_email) = lower($1) AND state = ANY($2::text[])"
)

# one request or approval of a user at a time, so that their numbers cannot exceed the limits
LOCK_USER: Final = "SELECT pg_advisory_xact_lock(hashtext('integrations.user'), hashtext(lower($1)))"

# if $2 is null, the integration may belong to any user
LOCK_INTEGRATION: Final = """
SELECT id, name, description, state FROM integration
WHERE id = $1 AND ($2::text IS NULL OR lower(user_email) = lower($2))
FOR NO KEY UPDATE
"""

SET_STATE: Final = """
UPDATE integration SET state = $2, changed = clock_timestamp(), failures = 0, failing_since = NULL, pause_reason = NULL
WHERE id = $1
"""

INTEGRATIONS: Final = """
SELECT i.id, i.state, i.name, i.description, i.image_url, i.url, i.headers, i.created,
    coalesce((
        SELECT array_agg(strategy_id ORDER BY strategy_id) FROM lane
        WHERE integration_id = i.id AND is_enabled
    ), '{}') AS strategies
FROM integration i WHERE lower(i.user_email) = lower($1) AND ($2::uuid IS NULL OR i.id = $2)
ORDER BY i.state = ANY($4::text[]) DESC, i.created DESC, i.id DESC LIMIT $3
"""

STRATEGIES: Final = """
SELECT s.id, s.name,
    coalesce((
        SELECT array_agg(l.integration_id ORDER BY l.id) FROM lane l
        WHERE l.strategy_id = s.id AND l.is_enabled
    ), '{}') AS integrations
FROM strategy s WHERE lower(s.user_email) = lower($1) ORDER BY s.id LIMIT $2
"""

STRATEGY: Final = "SELECT id, name FROM strategy WHERE id = $1 AND lower(user_email) = lower($2)"

ROTATE: Final = """
UPDATE integration SET previous_secret = secret, secret = $2, revision = revision + 1,
    previous_until = clock_timestamp() + make_interval(secs => $3)
WHERE id = $1 AND ($4::integer IS NULL OR revision = $4)
RETURNING id
"""

REVISION: Final = "SELECT revision FROM integration WHERE id = $1 AND lower(user_email) = lower($2)"

_IS_OVERTAKEN: Final = """EXISTS (
        SELECT FROM event n WHERE n.lane_id = e.lane_id AND (n.seq, n.take) > (e.seq, e.take)
            AND (n.tries > 0 OR n.state = 'WAITING') AND (n.type = ANY({signals}) OR l.strategy_id = '')
    )"""

DELIVERIES: Final = f"""
SELECT e.id, e.type, e.timestamp_ms, e.data, e.state, e.created, e.expires, e.log, e.replays,
    l.strategy_id, l.is_enabled, {_IS_OVERTAKEN.format(signals="$7::text[]")} AS is_overtaken
FROM event e JOIN lane l ON l.id = e.lane_id
WHERE e.integration_id = $1
    AND ($2::text IS NULL OR e.state = $2) AND ($3::text IS NULL OR e.type = $3)
    AND ($4::text IS NULL OR l.strategy_id = $4)
    AND ($8::uuid IS NULL OR e.id = $8)
    AND ($5::uuid IS NULL OR (e.created, e.id) < (SELECT b.created, b.id FROM event b WHERE b.id = $5))
ORDER BY e.created DESC, e.id DESC LIMIT $6
"""

LOCK_LANE_OF_EVENT: Final = """
SELECT l.id, l.strategy_id, l.is_enabled FROM lane l
WHERE l.id = (SELECT lane_id FROM event WHERE id = $1 AND integration_id = $2) FOR NO KEY UPDATE
"""

EVENT: Final = f"""
SELECT e.seq, e.type, e.state, e.replays, {_IS_OVERTAKEN.format(signals="$2::text[]")} AS is_overtaken
FROM event e JOIN lane l ON l.id = e.lane_id WHERE e.id = $1
"""

# the events move to the end of their lanes in the order of their positions, because no later signal was sent or waits
REPLAY: Final = """
WITH n AS (
    SELECT e.id, e.lane_id, r.life_seconds, row_number() OVER (PARTITION BY e.lane_id ORDER BY e.seq, e.take) AS rank,
        count(*) OVER (PARTITION BY e.lane_id) AS total
    FROM unnest($1::uuid[], $2::float8[]) AS r (id, life_seconds) JOIN event e ON e.id = r.id
), l AS (
    UPDATE lane SET last_seq = last_seq + t.total FROM (SELECT DISTINCT lane_id, total FROM n) t
    WHERE lane.id = t.lane_id RETURNING lane.id, last_seq - t.total AS before
)
UPDATE event AS e SET seq = l.before + n.rank, take = 0, state = 'WAITING', tries = 0, first_try = NULL,
    is_told = false, replays = replays + 1, expires = clock_timestamp() + make_interval(secs => n.life_seconds)
FROM n JOIN l ON l.id = n.lane_id WHERE e.id = n.id
"""
