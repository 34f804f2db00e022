"""The harness over HTTP: what a test in any language, or the console in a browser, does with it."""
