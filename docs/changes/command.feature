The mailgate command: init, account, deliver (a delivery agent for Postfix, Exim and procmail), import
(Maildir and mbox, with the unique-ids of Dovecot, Courier and qpopper), maildrop list and remove, check. Exit codes of
sysexits.h.
