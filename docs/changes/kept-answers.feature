Sessions that share a scan listing share the answers to NOOP, STAT, LIST n and UIDL n too, while nothing is marked (256 short ones of a
listing at most): in the engine a command that comes alone costs 0.75 µs instead of 1.7, one of a pipeline 0.14 instead of 1.7.
Headers alone (TOP n 0) and envelopes are read ahead 16, then 64 at a time, however large the messages are: TOP n 0 over a maildrop costs
a seventh less.
