TLS: STLS on pop3 listeners, STARTTLS on lmtp ones, pop3s. Certificates by name, taken up while the service runs; a
profile and client certificates per listener; session resumption.
