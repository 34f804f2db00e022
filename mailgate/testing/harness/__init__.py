"""The server that a test of a mail client talks to: a real one, with a hand on its octets and its clock."""
