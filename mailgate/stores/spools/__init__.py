"""Maildrops whose mail lies in files that other programs use too: Maildirs, mboxes."""
