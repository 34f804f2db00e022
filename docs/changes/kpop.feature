KPOP: listeners of protocol ``kpop`` speak POP3 behind a Kerberos 5 sendauth exchange, as fetchmail, movemail and
many a historic client do. Tickets are judged by MIT's libkrb5 (the extra ``kerberos``), rules say which principal opens
which maildrop, SDPS views included; TLS in front of the exchange or by STLS behind the greeting.
