``workers = N``: several processes serve behind the same ports and over the same store, one core each. One that
dies is replaced, and its maildrops are free at once; SIGHUP takes up the whole configuration by new ones.
