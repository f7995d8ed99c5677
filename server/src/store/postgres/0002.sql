-- One row for all that one transaction tells of a kind: a row for each device and its two index
-- entries were a quarter of the cost of a check-in that says something new.

DROP TABLE news;
CREATE TABLE news (
    id bigserial PRIMARY KEY,
    tx bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    at timestamptz NOT NULL DEFAULT now(),
    what smallint NOT NULL,
    rollout text,
    devices integer[] NOT NULL,
    seqs bigint[] NOT NULL
);
CREATE INDEX news_tx ON news (tx);

-- Replaced when a device reports other software: the new version finds room beside the old one,
-- and the index does not change.
ALTER TABLE inventory SET (fillfactor = 50);

-- The audit log that all servers write, by the names of its files.
CREATE TABLE audit_file (
    path text COLLATE "C" PRIMARY KEY,
    bytes bytea NOT NULL
);
