-- The first layout. Numbers of the wire without a sign are kept in signed columns bit for bit.

CREATE TABLE store (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    devices integer NOT NULL,
    record_versions bigint NOT NULL,
    receipts_max integer NOT NULL,
    events_max integer NOT NULL
);

-- Changed at every poll: half of each page is left free, so that a new version of a row finds
-- room beside the old one and no index changes (no index holds a column that polls change).
CREATE TABLE device (
    number integer PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    enrolled boolean NOT NULL,
    certificate bytea NOT NULL,
    not_after bigint NOT NULL,
    enrolled_at bigint NOT NULL,
    revoked_at bigint,
    seen_at bigint,
    inventory bytea,
    inventory_seq bigint NOT NULL,
    inventory_time bigint NOT NULL,
    receipts bigint NOT NULL,
    events bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE inventory (
    device integer PRIMARY KEY,
    bytes bytea NOT NULL
);

-- Rings: slot = seq modulo the size in "store".
CREATE TABLE receipt (
    device integer NOT NULL,
    slot integer NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    digest bytea NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (device, slot)
);
CREATE INDEX receipt_digest ON receipt (device, digest);

CREATE TABLE event (
    device integer NOT NULL,
    slot integer NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    what text NOT NULL,
    digest bytea,
    PRIMARY KEY (device, slot)
);

CREATE TABLE tags (
    device integer PRIMARY KEY,
    bytes bytea NOT NULL
);

CREATE TABLE rollout (
    name text COLLATE "C" PRIMARY KEY,
    bytes bytea NOT NULL
);

CREATE TABLE deployment (
    rollout text COLLATE "C" NOT NULL,
    device integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (rollout, device)
);

CREATE TABLE record (
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (kind, key)
);

-- The number of the last group of each writing server: tells after a broken connection whether
-- its commit counted.
CREATE TABLE writer (
    id bigint PRIMARY KEY,
    last_group bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

-- What servers tell each other of: that a row changed, never what it holds.
CREATE TABLE news (
    id bigserial PRIMARY KEY,
    tx bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    at timestamptz NOT NULL DEFAULT now(),
    what smallint NOT NULL,
    device integer,
    rollout text,
    seq bigint
);
CREATE INDEX news_tx ON news (tx);
