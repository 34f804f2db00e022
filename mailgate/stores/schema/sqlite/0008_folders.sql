-- Folders beside INBOX, which every maildrop has. A message's folder is one of these or INBOX.
CREATE TABLE folder (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    name        TEXT NOT NULL,
    PRIMARY KEY (maildrop_id, name)
) WITHOUT ROWID;
