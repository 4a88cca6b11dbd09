-- What is to be destroyed, and how far that has come. A row is never taken away: it is what keeps
-- a crash, or a file that comes back, from reviving what was erased.
CREATE TABLE tombstone (
    recording   BLOB NOT NULL,
    stream      INTEGER NOT NULL,
    call        BLOB NOT NULL,
    reason      TEXT NOT NULL,
    -- The decision that asks for it, and its digest.
    evidence_id BLOB NOT NULL,
    evidence    BLOB NOT NULL,
    -- Under which epoch's key the data key was wrapped: once that is destroyed, it is final.
    epoch       INTEGER,
    -- The last step that is done.
    done        TEXT NOT NULL,
    requested   INTEGER NOT NULL,
    -- The event that said so.
    event       BLOB NOT NULL,
    -- Since when a step fails.
    failing     INTEGER,
    -- When nothing of it was found any more.
    verified    INTEGER,
    PRIMARY KEY (recording, stream)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_open ON tombstone (requested) WHERE verified IS NULL;

-- The digests of manifests that were erased. The other party's manifests name them as the ones
-- before: this tells a chain with an erased link from one that somebody broke.
CREATE TABLE erased_manifest (
    recording BLOB NOT NULL,
    digest    BLOB NOT NULL,
    PRIMARY KEY (recording, digest)
) STRICT, WITHOUT ROWID;
