``mailgate import --unique-ids FORMAT`` and ``[store] unique_ids``: the unique-ids that the old server gave, and its order.
Dovecot with any ``pop3_uidl_format``, saved, reused or digested, of Maildir and mbox; Courier; Cyrus, whose folders can be
imported now; ipop3d, qpopper, popa3d, Mailutils, tpop3d and solid-pop3d. Equal ids of several messages are told apart as
Dovecot does it. A Dovecot's list with file names as saved ids, or with an order of its own, is read as Dovecot reads it.
