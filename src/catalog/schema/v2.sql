-- Who is never to be recorded, whatever a policy says. The number is encrypted, as in `party`.
CREATE TABLE do_not_record (
    party_ref BLOB PRIMARY KEY,
    number    BLOB NOT NULL,
    reason    TEXT NOT NULL,
    actor     TEXT NOT NULL,
    since     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
