``python -m bench`` (``make bench``) repeats the measurements of the manual on any machine: the same work on mailgate and
Dovecot side by side, growth to 10^6 messages and maildrops and 50,000 sessions, deliveries, latency under load.
``python -m bench compare`` measures Courier, too, where it is installed and root runs it.
``make test`` ends with a short look at the hot paths that judges nothing.
