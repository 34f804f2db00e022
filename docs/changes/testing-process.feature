``mailgate harness``: the server for tests of mail clients as a process, for any language. It tells its ports in one line of
JSON, is filled, broken and watched over an HTTP API (OpenAPI 3.1, a token, loopback only; a WebSocket for events), and ends
with the test that started it. The manual has one test in Python, Node, Perl, Java and a shell. ``Server.serve_api()``
serves the same API beside a Python test.
