AUTH GSSAPI (RFC 4752) for POP3: Kerberos tickets behind the greeting, for curl, fetchmail, mpop and whatever else has
them, by the service and the rules of ``[kerberos]``. Offered where a listener's ``mechanisms`` names it.
