-- What operators did on the console. The log has the same; the console shows the newest rows.
CREATE TABLE action (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    caller text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    trace_id text NOT NULL
);
