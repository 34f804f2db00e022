"""KPOP: POP3 behind a Kerberos sendauth exchange, on TCP port 1109. No I/O in here."""
