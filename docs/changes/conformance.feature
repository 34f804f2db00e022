``mailgate conformance HOST:PORT``: checks any POP3 server against what the RFCs say, 164 statements in five profiles, with
messages of its own where it may deliver; on the terminal, as JSON and as JUnit XML. The manual lists what Dovecot,
Courier, Cyrus and popa3d were found to do.
