"""Lines, keywords, replies and pipelining (RFC 1939 sections 3, 4 and 9; RFC 2449 sections 4, 6.4, 6.6)."""

from __future__ import annotations

import re

from tests.pop3.maildrops import Mail
from tests.pop3.staging import GREETING, ConversationCase, Server, with_limits


class LineTests(ConversationCase):
    def test_keywords_in_any_case(self) -> None:
        """Keywords are case-insensitive (RFC 1939 section 3)."""
        self.converse(GREETING + """
            C: uSeR mrose
            S: +OK *
            C: pass secret
            S: +OK *
            C: rEtR 1
            S: +OK *
            S: (lines)
            S: .
            C: stat
            S: +OK 1 120
            C: list 1
            S: +OK 1 120
            C: Quit
            S: +OK *
            S: (closed)
            """, sizes=[120], login=False)

    def test_bare_lf_ends_a_line(self) -> None:
        """Old clients end lines in a bare LF; the server's own lines still end in CRLF (section 3)."""
        self.converse("""
            C: NOOP\\n\\c
            S: +OK *
            C: STAT\\nNOOP\\n\\c
            S: +OK 0 0
            S: +OK *
            """)

    def test_bare_cr_ends_no_line(self) -> None:
        """A bare CR is content: this is one command, and a bad one (section 3)."""
        self.converse("""
            C: NOOP\\rSTAT
            S: -ERR *
            C: STAT
            S: +OK 0 0
            """)

    def test_unknown_command(self) -> None:
        """Unknown or unimplemented keywords are answered, and the session goes on (section 3)."""
        self.converse("""
            C: XYZZY
            S: -ERR *
            C: EHLO there
            S: -ERR *
            C: XTND XLST Message-Id
            S: -ERR *
            C:
            S: -ERR *
            C:  NOOP
            S: -ERR *
            C: NO
            S: -ERR *
            C: N\\x00OP
            S: -ERR *
            C: \\xff\\xfe\\x80
            S: -ERR *
            C: \\x00
            S: -ERR *
            C: NOOP\\x00
            S: -ERR *
            C: STAT
            S: +OK 0 0
            """)

    def test_keyword_is_no_method_name(self) -> None:
        """No spelling of a keyword reaches anything but the command table (section 3)."""
        for keyword in ("__class__", "noop_", "on_noop", "do_noop", "N%OP", "NOOP.", "*", "*EN", "*ENVX"):
            self.converse(f"""
                C: {keyword}
                S: -ERR *
                C: NOOP
                S: +OK *
                """)

    def test_wrong_state_before_login(self) -> None:
        """Commands of the TRANSACTION state are refused in AUTHORIZATION, each once (section 3)."""
        self.converse(GREETING + "".join(f"""
            C: {command}
            S: -ERR *
            """ for command in ("STAT", "LIST", "LIST 1", "UIDL", "RETR 1", "TOP 1 0", "DELE 1", "NOOP",
                                "RSET", "PASS secret")) + """
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: +OK *
            C: STAT
            S: +OK 1 120
            """, sizes=[120], login=False, removed=[])

    def test_wrong_state_after_login(self) -> None:
        """Commands of AUTHORIZATION are refused once logged in, and change nothing (sections 3, 4)."""
        self.converse("""
            C: USER mrose
            S: -ERR *
            C: PASS secret
            S: -ERR *
            C: AUTH PLAIN
            S: -ERR *
            C: STAT
            S: +OK 1 120
            """, sizes=[120])

    def test_surplus_arguments(self) -> None:
        """Arguments that a command does not take are a syntax error (section 3)."""
        self.converse("".join(f"""
            C: {command}
            S: -ERR *
            """ for command in ("STAT 1", "NOOP x", "RSET 1", "LIST 1 2", "UIDL 1 1", "RETR 1 1", "DELE 1 1",
                                "TOP 1 0 0", "CAPA x", "QUIT x")) + """
            C: STAT
            S: +OK 1 120
            """, sizes=[120], removed=[])

    def test_missing_arguments(self) -> None:
        """Arguments that a command needs are needed (section 3)."""
        self.converse("".join(f"""
            C: {command}
            S: -ERR *
            """ for command in ("RETR", "DELE", "TOP", "TOP 1", "RETR ", "TOP 1 ", "DELE ")) + """
            C: STAT
            S: +OK 1 120
            """, sizes=[120], removed=[])

    def test_one_space_between_arguments(self) -> None:
        """Exactly one space, no tab, separates arguments (section 3)."""
        self.converse("".join(f"""
            C: {command}
            S: -ERR *
            """ for command in ("LIST  1", "TOP 1  0", "DELE\\t1", "DELE  1", "TOP 1\\t0")) + """
            C: STAT
            S: +OK 1 120
            """, sizes=[120])

    def test_trailing_spaces(self) -> None:
        """One run of spaces at the end is forgiven (section 3)."""
        self.converse("""
            C: NOOP\\x20
            S: +OK *
            C: STAT\\x20\\x20\\x20
            S: +OK 2 320
            C: LIST 2\\x20
            S: +OK 2 200
            C: LIST\\x20
            S: +OK *
            S: 1 120
            S: 2 200
            S: .
            """, sizes=[120, 200])

    def test_message_numbers(self) -> None:
        """Zero, signs, hex, other digits and numbers past 10 digits are no message-numbers (section 4)."""
        numbers = ("0", "00", "-1", "+1", "1.0", "0x1", "1e0", "1_0", "x", "99999999999", "1" * 200,
                   "\\xb9", "\\xd9\\xa1", "1\\x00", "4294967297", "18446744073709551617", "2")
        for command in ("LIST", "RETR", "DELE", "UIDL", "TOP"):
            self.converse("".join(f"""
                C: {command} {number}{" 0" if command == "TOP" else ""}
                S: -ERR *
                """ for number in numbers) + """
                C: STAT
                S: +OK 1 120
                """, sizes=[120], policy=with_limits(bad_commands=1000), removed=[], fetched=[])

    def test_top_line_counts(self) -> None:
        """The second argument of TOP is a number from 0 on; nothing else will do (section 7)."""
        for count in ("-1", "+1", "x", "0x1", "1.0", "1\\x00", "\\xb2", "1" * 100):
            self.converse(f"""
                C: TOP 1 {count}
                S: -ERR *
                C: NOOP
                S: +OK *
                """, sizes=[120], fetched=[])

    def test_dot_lines_are_stuffed_in_lists(self) -> None:
        """A reply line that begins with a dot gets one more, in UIDL as in RETR (section 3)."""
        self.converse("""
            C: RETR 1
            S: +OK *
            S: ..first line
            S: ..
            S: ...
            S: x.
            S: .
            """, mails=[Mail(b".first line\n.\n..\nx.")])


class ReplyTests(ConversationCase):
    def test_every_reply_has_a_space_and_words(self) -> None:
        """`+OK ` and `-ERR ` in upper case, a space, text that begins with `[` only for a code, ASCII, and
        at most 512 octets (RFC 1939 section 3, RFC 1957, RFC 2449 sections 4, 6.4, 8)."""
        commands = [b"XYZZY", b"STAT", b"USER mrose", b"PASS wrong", b"USER mrose", b"PASS secret", b"STAT",
                    b"LIST 1", b"LIST 9", b"UIDL 1", b"UIDL 9", b"RETR 9", b"TOP 9 9", b"DELE 1", b"DELE 1",
                    b"RSET", b"NOOP", b"NOOP 1", b"LAST", b"*ENV 1", b"STLS", b"APOP a b", b"AUTH NONE",
                    b"x" * 300, b"QUIT"]
        server = Server([Mail(b"a\n")])
        peer = server.connect()
        self.reply(peer)
        for command in commands:
            peer.say(command + b"\r\n")
            self.reply(peer)
        self.assertTrue(peer.closed)

    def reply(self, peer: object) -> None:
        octets = bytes(peer.received)
        peer.received.clear()
        self.assertEqual(octets.count(b"\n"), 1, octets)
        self.assertLessEqual(len(octets), 512)
        self.assertRegex(octets, rb"\A(\+OK|-ERR) [\x20-\x7e]+\r\n\Z")
        text = octets.split(b" ", 1)[1]
        if text.startswith(b"["):
            self.assertRegex(text, rb"\A\[(AUTH|IN-USE|LOGIN-DELAY|SYS/TEMP|SYS/PERM)\] ")

    def test_nothing_of_the_client_is_echoed(self) -> None:
        """What a client says does not come back in a reply, escape sequences and line ends least of all."""
        server = Server([Mail(b"a\n")])
        peer = server.connect()
        for command in (b"\x1b[2J", b"USER \x1b[2Jmark", b"PASS \x1b[2Jmark", b"AUTH mark\x1b[2J",
                        b"USER mrose", b"PASS secret", b"RETR \x1b[2Jmark", b"LIST mark\x1b[2J", b"mark\x1b"):
            peer.say(command + b"\r\n")
        self.assertNotIn(b"\x1b", peer.received)
        self.assertNotIn(b"mark", peer.received)

    def test_error_is_one_line(self) -> None:
        """An `-ERR` reply is never multi-line (section 3)."""
        self.converse("""
            C: RETR 1
            S: -ERR *
            C: UIDL 1
            S: -ERR *
            C: TOP 1 1
            S: -ERR *
            C: LIST 1
            S: -ERR *
            """)


class PipeliningTests(ConversationCase):
    def test_login_and_commands_in_one_segment(self) -> None:
        """USER, PASS, STAT ... in one segment are processed in turn (RFC 2449 section 6.6)."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS secret
            C: STAT
            C: DELE 1
            C: LIST
            C: RETR 2
            C: QUIT
            S: +OK *
            S: +OK *
            S: +OK 2 320
            S: +OK *
            S: +OK *
            S: 2 200
            S: .
            S: +OK *
            S: (lines)
            S: .
            S: +OK *
            S: (closed)
            """, sizes=[120, 200], login=False, removed=[1])

    def test_commands_wait_for_an_asynchronous_login(self) -> None:
        """Also when authentication is asynchronous, later commands wait and see its outcome."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS secret
            C: STAT
            C: QUIT
            S: +OK *
            E: the login completes
            S: +OK *
            S: +OK 1 120
            S: +OK *
            S: (closed)
            """, sizes=[120], login=False, prepare=lambda server: server.realm.opening.shut(),
            events=lambda server: {"the login completes": server.realm.opening.open}, removed=[])

    def test_commands_wait_for_a_message(self) -> None:
        """While RETR waits for the store, what follows it waits too, and the replies keep their order."""
        self.converse("""
            C: RETR 1
            C: DELE 1
            C: TOP 2 0
            C: STAT
            S: (nothing)
            E: messages come
            S: +OK *
            S: a
            S: .
            S: +OK *
            S: +OK *
            S: H: b
            S:
            S: .
            S: +OK 1 11
            """, mails=[Mail(b"a"), Mail(b"H: b\n\nb\n")],
            prepare_drop=lambda drop: drop.fetching.shut(),
            events=lambda server: {"messages come": lambda: server.drop.fetching.open()}, removed=[])

    def test_asynchronous_store(self) -> None:
        """A store that answers every call by a Deferred gives the same conversation."""
        self.converse("""
            C: RETR 1
            C: RETR 2
            C: DELE 1
            C: RETR 1
            C: NOOP
            C: QUIT
            S: +OK *
            S: a
            S: .
            S: +OK *
            S: b
            S: .
            S: +OK *
            S: -ERR *
            S: +OK *
            S: +OK *
            S: (closed)
            """, mails=[Mail(b"a"), Mail(b"b", streamed=True)], asynchronous=True, removed=[1])

    def test_failed_login_then_another(self) -> None:
        """A refused login in the middle of a batch leaves the rest to be processed in AUTHORIZATION."""
        self.converse(GREETING + """
            C: USER mrose
            C: PASS wrong
            C: STAT
            C: USER mrose
            C: PASS secret
            C: STAT
            S: +OK *
            S: -ERR [AUTH] *
            S: -ERR *
            S: +OK *
            S: +OK *
            S: +OK 1 120
            """, sizes=[120], login=False)

    def test_input_after_quit_is_ignored(self) -> None:
        """After QUIT nothing more is processed, in either state (section 6)."""
        self.converse("""
            C: DELE 1
            C: QUIT
            C: RSET
            C: DELE 2
            C: NOOP
            S: +OK *
            S: +OK *
            S: (closed)
            """, sizes=[120, 200], removed=[1])
        self.converse(GREETING + """
            C: QUIT
            C: USER mrose
            C: PASS secret
            S: +OK *
            S: (closed)
            """, login=False)

    def test_answers_of_one_segment_leave_in_one_write(self) -> None:
        """The answers to a batch are one write, so that they share segments on the wire."""
        server = Server([Mail(b"H: a\n\nbody\n")])
        peer = server.log_in()
        before = peer.transport.writes
        peer.say(b"STAT\r\nNOOP\r\nLIST\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nRSET\r\n")
        self.assertEqual(peer.transport.writes - before, 1)
        self.assertEqual(len(re.findall(rb"^\+OK ", peer.received, re.MULTILINE)), 7)

    def test_no_delay_is_asked_for(self) -> None:
        """TCP_NODELAY is set: without it a small RETR waits for the client's delayed acknowledgement."""
        self.assertTrue(Server().connect().transport.no_delay)
