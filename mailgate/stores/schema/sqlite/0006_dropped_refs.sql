-- References that removed messages gave up and that their bodies still count: freeing a large body in
-- a row takes reading all of it, so that many of them wait here for a few to be freed at a time.
CREATE TABLE dropped_ref (
    body_id     INTEGER PRIMARY KEY,
    refs        INTEGER NOT NULL
);
