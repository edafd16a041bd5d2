-- The trace id of the signal that an event is about, for the log lines of its deliveries; '' for other events.
ALTER TABLE event ADD COLUMN trace_id text NOT NULL DEFAULT '';
