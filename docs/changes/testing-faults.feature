Faults for tests of mail clients (mailgate.testing): some forty kinds of trouble with replies, listings, messages,
logins and QUIT, each at a session, command, occurrence and octet, or by chance with a seed; written as TOML or in
Python. Without faults the harness says octet for octet what the service says.
