POP3 (RFC 1939, 2449, 3206, 5034): USER, PASS, AUTH PLAIN, CAPA, STAT, LIST, UIDL, TOP, RETR, DELE, NOOP,
RSET, QUIT, LAST where configured. An engine of our own: exact sizes at every cut of the stream, pipelined
commands answered in order, bounded memory whatever a client sends or does not read, QUIT truthful: +OK after
the removal is on disk.
