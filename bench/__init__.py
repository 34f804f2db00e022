"""Measurements of mailgate on this machine, alone and beside other servers: `python -m bench`."""
