A held clock for tests of clients: idle timeouts, LOGIN-DELAY, delays, ages of messages and tokens go by it, and a test
advances it without sleeping. Leases can be lost on purpose. An SMTP listener receives mail, and mailgate.testing.kdc
runs a Kerberos realm for KPOP.
