The test harness for mail clients breaks TLS, STLS, SASL and OAuth exchanges, the greeting and its timestamp on
command: certificates each with one thing wrong, versions and ciphers, handshakes cut or answered by something else,
renegotiation, truncation, injected and stripped STLS, challenges malformed or endless, SCRAM that proves nothing.
