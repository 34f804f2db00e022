twistd mailgate: a TOML file whose mistakes are all told at once, socket activation and readiness for systemd,
an end in order at SIGTERM, and --demo, which needs no configuration.
