mailgate.testing.Server, and a pytest plugin with the fixture ``mailgate``: a server for tests of mail clients, filled,
broken and read by the test, beside any event loop. The report of a test that fails shows what was said.
