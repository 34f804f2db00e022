``mailgate.testing``: written conversations are servers (``server.script``, ``mailgate harness --script``), with patterns,
choices and loops; ``mailgate harness record`` writes what a client and a real server say as such a script, secrets masked.
