``mailgate migrate pop3``: takes over the unique-ids that another POP3 server shows, for one account or many, by matching its
messages with those that are here; ``--copy`` fetches what is missing. Nothing is removed there.
