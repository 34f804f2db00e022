-- What a scan listing is made of, without the rest of the rows: a tenth of the pages to read.
CREATE INDEX message_listing ON message (maildrop_id, folder, serial, octets, unique_id);
