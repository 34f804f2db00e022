"""What a server can do wrong on command: faults, and scenarios made of them. Knows no Twisted."""
