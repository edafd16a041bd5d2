-- The process that holds a lane, so that its successor on the same machine can take over when it was killed.
ALTER TABLE lane ADD COLUMN holder text NOT NULL DEFAULT '';
