LMTP (RFC 2033) over TCP and unix sockets with PIPELINING, ENHANCEDSTATUSCODES, 8BITMIME, SMTPUTF8, CHUNKING
and SIZE: one reply a recipient, 250 only when the message is on disk; messages are streamed to the store,
never held whole.
