-- Each change of an account increments its version. Rows that were read are still valid while the version is the same, so
-- no lock is held between reading and writing.
ALTER TABLE account ADD COLUMN version bigint NOT NULL DEFAULT 0;
