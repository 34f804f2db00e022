-- Mail that lies in files of other programs: what is remembered of each message, so that it is not read
-- again, and a removal that was decided and may not have been carried out yet.
CREATE TABLE spool_entry (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    name        BLOB NOT NULL,
    data        BLOB NOT NULL,
    PRIMARY KEY (maildrop_id, name)
) WITHOUT ROWID;
CREATE TABLE spool_journal (
    maildrop_id INTEGER PRIMARY KEY REFERENCES maildrop (id),
    data        BLOB NOT NULL,
    blob_key    TEXT                            -- what does not fit into the row: no rubbish
);
