"""Marks: DELE, RSET, NOOP and LAST (RFC 1939 section 5; RFC 1460)."""

from __future__ import annotations

from dataclasses import replace

from tests.pop3.staging import QUICK, ConversationCase

WITH_LAST = replace(QUICK, last=True)


class MarkTests(ConversationCase):
    def test_dele_twice(self) -> None:
        """A marked message cannot be marked again nor used in any way (section 5)."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: DELE 1
            S: -ERR *
            C: LIST 1
            S: -ERR *
            C: UIDL 1
            S: -ERR *
            C: RETR 1
            S: -ERR *
            C: TOP 1 0
            S: -ERR *
            C: DELE 3
            S: -ERR *
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120, 200], removed=[1])

    def test_rset(self) -> None:
        """RSET unmarks all (section 5)."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: DELE 2
            S: +OK *
            C: RSET
            S: +OK *
            C: STAT
            S: +OK 2 320
            C: RETR 1
            S: +OK *
            S: (lines)
            S: .
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120, 200], removed=[])

    def test_mark_after_rset(self) -> None:
        """A message that was unmarked may be marked again."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: RSET
            S: +OK *
            C: DELE 1
            S: +OK *
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120, 200], removed=[1])

    def test_noop(self) -> None:
        """NOOP does nothing, well (section 5)."""
        self.converse("""
            C: NOOP
            S: +OK *
            C: STAT
            S: +OK 1 120
            """, sizes=[120])

    def test_delete_without_fetching(self) -> None:
        """DELE needs no RETR before it."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120], removed=[1], fetched=[])


class LastTests(ConversationCase):
    def test_off_unless_configured(self) -> None:
        """LAST is gone from RFC 1725 on: unknown unless it is asked for."""
        self.converse("""
            C: LAST
            S: -ERR *
            """, sizes=[120])

    def test_highest_accessed(self) -> None:
        """The highest number that RETR or DELE named; TOP does not count (RFC 1460)."""
        self.converse("""
            C: LAST
            S: +OK 0
            C: TOP 3 0
            S: +OK *
            S: (lines)
            S: .
            C: LIST 3
            S: +OK 3 300
            C: LAST
            S: +OK 0
            C: RETR 2
            S: +OK *
            S: (lines)
            S: .
            C: LAST
            S: +OK 2
            C: RETR 1
            S: +OK *
            S: (lines)
            S: .
            C: LAST
            S: +OK 2
            C: DELE 3
            S: +OK *
            C: LAST
            S: +OK 3
            """, sizes=[120, 200, 300], policy=WITH_LAST)

    def test_rset_returns_it(self) -> None:
        """RSET returns it to its value at login (RFC 1460)."""
        self.converse("""
            C: DELE 2
            S: +OK *
            C: RSET
            S: +OK *
            C: LAST
            S: +OK 0
            """, sizes=[120, 200], policy=WITH_LAST)

    def test_failures_do_not_count(self) -> None:
        """A number that was refused was not accessed."""
        self.converse("""
            C: RETR 9
            S: -ERR *
            C: DELE 9
            S: -ERR *
            C: LAST
            S: +OK 0
            C: LAST 1
            S: -ERR *
            """, sizes=[120, 200], policy=WITH_LAST)

    def test_not_before_login(self) -> None:
        """LAST belongs to the TRANSACTION state."""
        self.converse("""
            S: +OK *
            C: LAST
            S: -ERR *
            """, login=False, policy=WITH_LAST)
