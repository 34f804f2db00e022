-- Folders beside INBOX, which every maildrop has. A message's folder is one of these or INBOX.
CREATE TABLE folder (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    name        TEXT NOT NULL,
    PRIMARY KEY (maildrop_id, name)
) WITHOUT ROWID;
-- What lies in a folder is found without a look at the INBOX, and the INBOX's mail has no part in it.
CREATE INDEX message_folder ON message (maildrop_id, folder, serial) WHERE folder <> 'INBOX';
