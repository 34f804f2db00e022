"""A suite of checks for POP3 servers: what the RFCs say, one statement after another, asked over a socket.

It drives the wire from code of its own. Nothing here knows our framing, our dots or our command
table, so that a mistake of theirs cannot hide behind itself.
"""
