-- For operators: why an integration was paused, and indexes that find the integrations in trouble among many.
ALTER TABLE integration ADD COLUMN pause_reason text CHECK (pause_reason IN ('GONE', 'FAILURES'));
CREATE INDEX integration_state ON integration (state, changed, id);
CREATE INDEX integration_changed ON integration (changed, id);
CREATE INDEX integration_failing ON integration (failing_since, id) WHERE failures > 0;
