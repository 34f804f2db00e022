-- The first schema. Times are milliseconds since 1970, UTC. Keys are names folded to one case.

-- Whose bodies are in the blob store: the same id lies beside them. Copies of a store share it.
CREATE TABLE store (
    id TEXT NOT NULL
);
INSERT INTO store VALUES (lower(hex(randomblob(16))));

-- Credential versions are never used twice, not even by an account that is removed and added again.
CREATE TABLE account_version (
    last INTEGER NOT NULL
);
INSERT INTO account_version VALUES (0);

CREATE TABLE account (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    sdps        INTEGER NOT NULL,
    disabled    INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    verifiers   TEXT NOT NULL,      -- JSON arrays of strings, in order
    addresses   TEXT NOT NULL,
    domains     TEXT NOT NULL
);

-- Everything an account answers to exactly. The tails are what follows the last @ and the last +,
-- where something stands before it: an SDPS split of the key would take them for a host.
CREATE TABLE account_key (
    key         TEXT PRIMARY KEY,
    account_id  INTEGER NOT NULL REFERENCES account (id),
    is_address  INTEGER NOT NULL,
    is_domain   INTEGER NOT NULL,
    at_tail     TEXT,
    plus_tail   TEXT
) WITHOUT ROWID;
CREATE INDEX account_key_account ON account_key (account_id);
CREATE INDEX account_key_at ON account_key (at_tail) WHERE at_tail IS NOT NULL;
CREATE INDEX account_key_plus ON account_key (plus_tail) WHERE plus_tail IS NOT NULL;

-- An id is never used twice: what is kept in memory by id and change counter stays true.
CREATE TABLE maildrop (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    messages    INTEGER NOT NULL DEFAULT 0,
    octets      INTEGER NOT NULL DEFAULT 0,     -- the sum of its messages' octets
    change      INTEGER NOT NULL DEFAULT 0,     -- grows with every transaction that changes its messages
    next_serial INTEGER NOT NULL DEFAULT 1
);

-- The last login to each view; the empty view is the whole maildrop.
CREATE TABLE login (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    view        TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (maildrop_id, view)
) WITHOUT ROWID;

-- What the recipients of one delivery share, in wire form: in the row, or in the blob store under
-- a key. `data` is last, so that the rest can be read without it.
CREATE TABLE body (
    id          INTEGER PRIMARY KEY,
    refs        INTEGER NOT NULL,               -- messages that name it
    octets      INTEGER NOT NULL,               -- before byte-stuffing
    wire_octets INTEGER NOT NULL,
    head_octets INTEGER NOT NULL,               -- of the wire form: the header with its blank line
    key         TEXT,
    data        BLOB,
    CHECK ((key IS NULL) <> (data IS NULL))
);
CREATE UNIQUE INDEX body_key ON body (key) WHERE key IS NOT NULL;

CREATE TABLE message (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    serial      INTEGER NOT NULL,
    octets      INTEGER NOT NULL,               -- preamble and body, before byte-stuffing
    unique_id   BLOB NOT NULL,
    user_key    TEXT,                           -- the SDPS view that shows it
    body_id     INTEGER NOT NULL REFERENCES body (id),
    folder      TEXT NOT NULL DEFAULT 'INBOX',  -- POP3 shows INBOX
    flags       TEXT NOT NULL DEFAULT '',
    arrived_ms  INTEGER NOT NULL,
    sender      BLOB NOT NULL,
    recipient   BLOB NOT NULL,
    preamble    BLOB NOT NULL,
    PRIMARY KEY (maildrop_id, serial)
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_unique_id ON message (maildrop_id, unique_id);
CREATE INDEX message_user ON message (maildrop_id, user_key) WHERE user_key IS NOT NULL;

-- Which delivery reached whom lately: a retry stores nothing twice.
CREATE TABLE delivery (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    id          TEXT NOT NULL,
    recipient   BLOB NOT NULL,
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (maildrop_id, id, recipient)
) WITHOUT ROWID;

-- The unique-ids that an import brought, for as long as there is the maildrop: an import that is
-- repeated does not bring back what was fetched and removed.
CREATE TABLE imported (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    unique_id   BLOB NOT NULL,
    PRIMARY KEY (maildrop_id, unique_id)
) WITHOUT ROWID;

-- Blobs that no body names any more; they stay for a grace period.
CREATE TABLE removed_blob (
    key         TEXT PRIMARY KEY,
    at_ms       INTEGER NOT NULL
) WITHOUT ROWID;

-- One row a process. Once expired it is never renewed: its leases are dead for good.
CREATE TABLE holder (
    id          TEXT PRIMARY KEY,
    expires_ms  INTEGER NOT NULL
) WITHOUT ROWID;

-- One row a session, by what it sees; the empty view is the whole maildrop and excludes all others.
CREATE TABLE lease (
    maildrop_id INTEGER NOT NULL REFERENCES maildrop (id),
    view        TEXT NOT NULL,
    session     TEXT NOT NULL,
    holder      TEXT NOT NULL,
    PRIMARY KEY (maildrop_id, view)
) WITHOUT ROWID;
