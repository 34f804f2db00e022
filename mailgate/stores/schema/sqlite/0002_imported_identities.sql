-- What an import took is known by an identity, for as long as there is the maildrop: an import that
-- is repeated does not bring back what was fetched and removed. The unique-ids it brought (or that
-- its messages were given) stay known too, so that no other message gets one of them.
ALTER TABLE imported ADD COLUMN identity BLOB;
UPDATE imported SET identity = unique_id;
CREATE UNIQUE INDEX imported_identity ON imported (maildrop_id, identity);
