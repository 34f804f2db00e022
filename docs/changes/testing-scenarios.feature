A library of more than a hundred scenarios for tests of mail clients: what servers are known to have done wrong, each
with the bug of a client that it finds (mailgate.testing.scenarios), messages that clients stumble over by name
(mailgate.testing.samples), and what poplib, curl, fetchmail, getmail6 and mpop made of them.
