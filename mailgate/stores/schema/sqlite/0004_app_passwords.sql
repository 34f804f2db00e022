-- Passwords of an account beside its own: one for a program or device, known by a label. Its use is
-- noted now and then, not at each login.
CREATE TABLE app_password (
    account_id      INTEGER NOT NULL REFERENCES account (id),
    key             TEXT NOT NULL,              -- the label, folded to one case
    label           TEXT NOT NULL,
    verifier        TEXT NOT NULL,
    generated       INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    last_used_ms    INTEGER,
    last_used_from  TEXT,
    PRIMARY KEY (account_id, key)
) WITHOUT ROWID;
