``mailgate import`` lets messages share commits, in the order of the source: of 5000 messages (50 of them large) 747
syncs instead of more than 5000, and less than half the CPU time.
