Maildirs as a live store: `maildrops = "maildir:/home/{name}/Maildir"`, shared with Postfix, procmail, Dovecot or Courier. Messages
are read once and remembered; unique-ids and order are the old server's where its lists are there; QUIT is decided in the database
and carried out for certain; envelopes for `*ENV` and SDPS users come from header fields. Folders are Maildir++'s.
