-- How long a holder's life is after each renewal: one that claims to live longer was written before the
-- clock was set back. Null: written by an earlier version, which did not say.
ALTER TABLE holder ADD COLUMN lease_ms INTEGER;

-- The time by which retention was last judged. A clock that is far ahead of it is doubted at first, from
-- the time `doubted_ms` on; null: it is believed.
CREATE TABLE retention_clock (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms       INTEGER NOT NULL,
    doubted_ms  INTEGER
);
INSERT INTO retention_clock (id, at_ms)
SELECT 1, coalesce(max(at_ms), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
FROM (SELECT at_ms FROM login UNION ALL SELECT at_ms FROM delivery);
