-- Random octets that every process of this store shares: answers for names that nobody has are
-- invented by them, the same each time.
CREATE TABLE server_secret (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    octets      BLOB NOT NULL
);
