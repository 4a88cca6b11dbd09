-- Commands from outside the calls, carried out or refused. Texts hold no number.
CREATE TABLE command (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Its own identifier; NULL for one that had none.
    id        BLOB,
    verb      TEXT NOT NULL,
    way       TEXT NOT NULL,
    actor     TEXT,
    reason    TEXT,
    call      BLOB,
    recording BLOB,
    party     TEXT,
    at        INTEGER NOT NULL,
    outcome   TEXT NOT NULL,
    -- Why it was refused.
    code      TEXT
) STRICT;
CREATE INDEX command_at ON command (at);
CREATE INDEX command_call ON command (call) WHERE call IS NOT NULL;
