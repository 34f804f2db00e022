mailgate.testing.MemoryServer: the server for tests of clients on Twisted, joined to them in memory, without thread,
socket or reactor; a mixin for trial's TestCases, an endpoint, and a reactor for clients that take one.
