-- Times are microseconds since the Unix epoch, UTC. Identifiers are 16 bytes, digests and party
-- references 32. No table but `party` holds a number, and there it is encrypted.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The public halves of the keys that signed the evidence.
CREATE TABLE signing_key (
    id     TEXT PRIMARY KEY,
    public BLOB NOT NULL,
    since  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where each agent's chain stands: what tells a whole chain from one that lost its end.
CREATE TABLE chain (
    agent    TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    digest   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE evidence (
    agent     TEXT NOT NULL,
    sequence  INTEGER NOT NULL,
    id        BLOB NOT NULL UNIQUE,
    digest    BLOB NOT NULL,
    call      BLOB NOT NULL,
    recording BLOB NOT NULL,
    stream    INTEGER NOT NULL,
    party_ref BLOB NOT NULL,
    gate      TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    at        INTEGER NOT NULL,
    record    TEXT NOT NULL,
    UNIQUE (agent, sequence)
) STRICT;
CREATE INDEX evidence_recording ON evidence (recording);
CREATE INDEX evidence_party ON evidence (party_ref);

CREATE TABLE party (
    party_ref  BLOB PRIMARY KEY,
    number     BLOB,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE call (
    id            BLOB PRIMARY KEY,
    mode          TEXT NOT NULL,
    direction     TEXT NOT NULL,
    route         INTEGER NOT NULL,
    policy        TEXT NOT NULL,
    policy_digest BLOB NOT NULL,
    started       INTEGER NOT NULL,
    ended         INTEGER,
    cause         TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX call_open ON call (id) WHERE ended IS NULL;

CREATE TABLE participant (
    call      BLOB NOT NULL,
    leg       TEXT NOT NULL,
    party_ref BLOB NOT NULL,
    joined    INTEGER NOT NULL,
    departed  INTEGER,
    PRIMARY KEY (call, leg, party_ref)
) STRICT, WITHOUT ROWID;
CREATE INDEX participant_party ON participant (party_ref, call);

CREATE TABLE recording (
    id            BLOB PRIMARY KEY,
    call          BLOB NOT NULL,
    state         TEXT NOT NULL,
    truncated     INTEGER NOT NULL DEFAULT 0,
    policy        TEXT NOT NULL,
    policy_digest BLOB NOT NULL,
    basis         TEXT NOT NULL,
    purposes      TEXT NOT NULL,
    controller    TEXT NOT NULL,
    scope         TEXT NOT NULL,
    retention_ms  INTEGER NOT NULL,
    began         INTEGER NOT NULL,
    started       INTEGER,
    ended         INTEGER,
    expires       INTEGER,
    result        TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX recording_began ON recording (began);
CREATE INDEX recording_state ON recording (state, began);
CREATE INDEX recording_policy ON recording (policy, began);
CREATE INDEX recording_call ON recording (call);
CREATE INDEX recording_expires ON recording (expires) WHERE expires IS NOT NULL;

CREATE TABLE stream (
    recording   BLOB NOT NULL REFERENCES recording (id),
    stream      INTEGER NOT NULL,
    party_ref   BLOB NOT NULL,
    evidence    BLOB NOT NULL,
    evidence_id BLOB NOT NULL,
    granted     INTEGER NOT NULL,
    withdrawn   INTEGER,
    key         TEXT,
    epoch       INTEGER,
    -- Payload types and codecs, JSON: what a crash would otherwise leave unknown.
    codecs      TEXT,
    PRIMARY KEY (recording, stream)
) STRICT, WITHOUT ROWID;
CREATE INDEX stream_party ON stream (party_ref, recording);

CREATE TABLE segment (
    recording BLOB NOT NULL,
    stream    INTEGER NOT NULL,
    segment   INTEGER NOT NULL,
    state     TEXT NOT NULL,
    began     INTEGER NOT NULL,
    ended     INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    sha256    BLOB NOT NULL,
    key       TEXT NOT NULL,
    location  TEXT NOT NULL,
    manifest  BLOB,
    PRIMARY KEY (recording, stream, segment),
    FOREIGN KEY (recording, stream) REFERENCES stream (recording, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE gap (
    recording BLOB NOT NULL,
    stream    INTEGER NOT NULL,
    began     INTEGER NOT NULL,
    ended     INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    PRIMARY KEY (recording, stream, began, reason),
    FOREIGN KEY (recording, stream) REFERENCES stream (recording, stream)
) STRICT, WITHOUT ROWID;

-- The number of the last event about each thing.
CREATE TABLE event_sequence (
    about    BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
    id           BLOB NOT NULL UNIQUE,
    about        BLOB NOT NULL,
    entity       TEXT NOT NULL,
    call         BLOB,
    recording    BLOB,
    at           INTEGER NOT NULL,
    subject      TEXT NOT NULL,
    json         TEXT NOT NULL,
    js_stream    TEXT,
    js_sequence  INTEGER,
    acknowledged INTEGER,
    -- Why it can never be published.
    set_aside    TEXT
) STRICT;
CREATE INDEX outbox_unsent ON outbox (sequence)
    WHERE acknowledged IS NULL AND set_aside IS NULL;
CREATE INDEX outbox_set_aside ON outbox (at) WHERE set_aside IS NOT NULL;
CREATE INDEX outbox_acknowledged ON outbox (acknowledged) WHERE acknowledged IS NOT NULL;
CREATE INDEX outbox_jetstream ON outbox (js_stream, js_sequence) WHERE js_sequence IS NOT NULL;
CREATE INDEX outbox_at ON outbox (at);
