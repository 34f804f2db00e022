"""Commands, states and replies of LMTP as conversations (RFC 2033, 5321, 1870, 2034, 2920, 6531)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed

from mailgate.errors import OverQuota, StoreFull, StoreUnavailable
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.model import Envelope, Placement
from tests.lmtp.staging import ARRIVED, GREETING, LHLO, RECEIVED, TO_A, ConversationCase, Server

MS = int(ARRIVED * 1000)


class BeginningTests(ConversationCase):
    def test_greeting_and_quit(self) -> None:
        """`LMTP` in the greeting (RFC 2033 section 4.2); 221 and the connection closes."""
        self.converse(GREETING + """
            C: QUIT
            S: 221 2.0.0 bye
            S: (closed)
            """)

    def test_helo_and_ehlo_fail(self) -> None:
        """D1: a client that takes us for SMTP must not get on (RFC 2033 section 4.1)."""
        self.converse(GREETING + """
            C: EHLO mx.example
            S: 500 5.5.2 *
            C: HELO mx.example
            S: 500 5.5.2 *
            C: MAIL FROM:<s@y>
            S: 503 5.5.1 *
            """)

    def test_lhlo_announces_what_is_true(self) -> None:
        """SIZE 0 where there is no limit (RFC 1870 section 3); SMTPUTF8 when it is on."""
        self.converse(GREETING + """
            C: lhlo [192.0.2.1]
            S: 250-mail.example
            S: 250-PIPELINING
            S: 250-ENHANCEDSTATUSCODES
            S: 250-CHUNKING
            S: 250-8BITMIME
            S: 250 SIZE 0
            C: MAIL FROM:<s@y> SIZE=99999999999999999999
            S: 250 2.1.0 *
            C: RSET
            S: 250 2.0.0 *
            C: MAIL FROM:<s@y> SMTPUTF8
            S: 555 5.5.4 *
            """, policy=LmtpPolicy(size_octets=0, utf8=False))

    def test_lhlo_needs_one_printable_word(self) -> None:
        """What would not fit into a Received field is no name."""
        self.converse(GREETING + r"""
            C: LHLO
            S: 501 5.5.4 *
            C: LHLO two words
            S: 501 5.5.4 *
            C: LHLO m\xc3\xbcnchen.example
            S: 501 5.5.4 *
            C: LHLO a\0b
            S: 501 5.5.4 *
            C: LHLO evil\rReceived:
            S: 501 5.5.4 *
            C: MAIL FROM:<>
            S: 503 5.5.1 *
            """)

    def test_any_time_commands(self) -> None:
        """NOOP, VRFY, HELP, RSET need no LHLO (RFC 5321 section 4.1.4); blanks at the end are no argument."""
        self.converse(GREETING + r"""
            C: NOOP
            S: 250 2.0.0 *
            C: NOOP whatever it is
            S: 250 2.0.0 *
            C: VRFY a@x
            S: 252 2.0.0 *
            C: VRFY
            S: 501 5.5.4 *
            C: HELP
            S: 214 2.0.0 *
            C: RSET\x20\x20
            S: 250 2.0.0 *
            C: RSET now
            S: 501 5.5.4 *
            C: QUIT now
            S: 501 5.5.4 *
            C: EXPN list
            S: 500 5.5.2 *
            """)


class TransactionTests(ConversationCase):
    def test_a_message(self) -> None:
        """The whole way: Received in front, envelope and preamble beside it."""
        def check(server: Server) -> None:
            (delivery,) = server.stub.committed
            self.assertEqual(delivery.content, RECEIVED + b"Subject: s\r\n\r\ntext\r\n")
            self.assertEqual(delivery.delivery_id, "ID-1")
            self.assertEqual(delivery.placements, (Placement(
                "a", None, Envelope(b"s@y", b"a@x", MS), b"Return-Path: <s@y>\r\nDelivered-To: a@x\r\n"),))

        self.converse(TO_A + """
            C: DATA
            S: 354 *
            C: Subject: s
            C:
            C: text
            C: .
            S: 250 2.0.0 stored, id ID-1
            C: QUIT
            S: 221 2.0.0 bye
            S: (closed)
            """, check=check)

    def test_one_reply_per_accepted_recipient(self) -> None:
        """D2: three RCPT, one refused, two replies in order (RFC 2033 section 4.2); no `for` clause."""
        def check(server: Server) -> None:
            (delivery,) = server.stub.committed
            placements = delivery.placements or ()
            self.assertEqual([p.maildrop for p in placements], ["a", "b"])
            self.assertNotIn(b"for <", delivery.content)

        self.converse(LHLO + """
            C: MAIL FROM:<> BODY=8BITMIME
            S: 250 2.1.0 *
            C: RCPT TO:<a@x>
            S: 250 2.1.5 *
            C: RCPT TO:<nobody@x>
            S: 550 5.1.1 *
            C: RCPT TO:<b@x>
            S: 250 2.1.5 *
            C: DATA
            S: 354 *
            C: text
            C: .
            S: 250 2.0.0 *
            S: 452 4.2.2 *
            """, prepare=lambda server: server.stub.outcomes.update({b"b@x": OverQuota("b")}), check=check)

    def test_same_path_twice(self) -> None:
        """D3: two replies, one copy; the domain's case makes no other path, the local part's does."""
        def check(server: Server) -> None:
            (delivery,) = server.stub.committed
            paths = [placement.envelope.recipient for placement in delivery.placements or ()]
            self.assertEqual(paths, [b"user1@x", b"userA@x", b"usera@x"])

        def second_fails(server: Server) -> None:
            server.stub.outcomes[b"userA@x"] = StoreFull("disk")

        self.converse(LHLO + """
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<user1@x>
            S: 250 *
            C: RCPT TO:<user1@X>
            S: 250 *
            C: RCPT TO:<userA@x>
            S: 250 *
            C: RCPT TO:<user1@x>
            S: 250 *
            C: RCPT TO:<usera@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 250 2.0.0 stored*
            S: 250 2.0.0 stored*
            S: 452 4.3.1 *
            S: 250 2.0.0 stored*
            S: 250 2.0.0 stored*
            C: NOOP
            S: 250 2.0.0 ok
            """, prepare=second_fails, check=check)

    def test_data_needs_a_recipient(self) -> None:
        """D4: 503 without one (RFC 2033 section 4.2), and the transaction goes on."""
        self.converse(LHLO + """
            C: DATA
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: DATA
            S: 503 5.5.1 *
            C: RCPT TO:<nobody@x>
            S: 550 5.1.1 *
            C: DATA
            S: 503 5.5.1 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 250 2.0.0 *
            """, stored=[b""])

    def test_order_of_commands(self) -> None:
        """RFC 5321 section 4.1.4: RCPT needs MAIL, MAIL does not nest; RSET, LHLO and the end clear."""
        self.converse(LHLO + """
            C: RCPT TO:<a@x>
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: MAIL FROM:<t@y>
            S: 503 5.5.1 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: MAIL FROM:<t@y>
            S: 503 5.5.1 *
            C: RSET
            S: 250 2.0.0 ok
            C: RCPT TO:<a@x>
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: LHLO again
            S: (lines)
            S: 250 SIZE 52428800
            C: DATA
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 250 2.0.0 *
            C: RCPT TO:<a@x>
            S: 503 5.5.1 *
            """, stored=[b""])

    def test_rset_before_lhlo_is_no_lhlo(self) -> None:
        """RSET returns to where the conversation was, not further."""
        self.converse(GREETING + """
            C: RSET
            S: 250 *
            C: MAIL FROM:<>
            S: 503 5.5.1 *
            """)

    def test_whole_transactions_in_one_segment(self) -> None:
        """D9: a pipelining client's next MAIL waits behind the dot; replies keep their order."""
        self.converse(LHLO + """
            C: MAIL FROM:<s@y>
            C: RCPT TO:<a@x>
            C: RCPT TO:<nobody@x>
            C: DATA
            C: first
            C: .
            C: MAIL FROM:<>
            C: RCPT TO:<b@x>
            C: DATA
            C: second
            C: .
            C: QUIT
            S: 250 2.1.0 *
            S: 250 2.1.5 *
            S: 550 5.1.1 *
            S: 354 *
            S: 250 2.0.0 stored, id ID-1
            S: 250 2.1.0 *
            S: 250 2.1.5 *
            S: 354 *
            S: 250 2.0.0 stored, id ID-2
            S: 221 *
            S: (closed)
            """, stored=[b"first\r\n", b"second\r\n"])

    def test_received_names_who_came(self) -> None:
        """An IPv6 peer as a literal; a unix socket has no address to tell (RFC 5321 section 4.4)."""
        script = TO_A + """
            C: DATA
            S: 354 *
            C: .
            S: 250 *
            """
        for address, begin in (
                (IPv6Address("TCP", "2001:db8::7", 1), b"Received: from mx.example ([IPv6:2001:db8::7])\r\n"),
                (UNIXAddress(None), b"Received: from mx.example\r\n\tby mail.example with LMTP id ID-1\r\n")):
            def check(server: Server, begin: bytes = begin) -> None:
                self.assertTrue(server.stub.committed[0].content.startswith(begin))
            self.converse(script, address=address, check=check)


class PathTests(ConversationCase):
    def test_paths_are_kept_as_given(self) -> None:
        """D10: null sender, quoted local part, source route left out (RFC 5321 appendix C), case kept."""
        def check(server: Server) -> None:
            (delivery,) = server.stub.committed
            self.assertEqual([p.envelope for p in delivery.placements or ()], [
                Envelope(b"", b'"q u"@x', MS), Envelope(b"", b"User.One@X", MS),
                Envelope(b"", b"Postmaster", MS)])
            self.assertEqual(server.router.asked, [b'"q u"@x', b"User.One@X", b"Postmaster"])

        def knows_more(server: Server) -> None:
            server.router.names.add("User.One")

        self.converse(LHLO + """
            C: mail from:<>
            S: 250 2.1.0 *
            C: RCPT TO:<"q u"@x>
            S: 250 2.1.5 *
            C: rcpt to: <@relay.one,@relay.two:User.One@X>
            S: 250 2.1.5 *
            C: RCPT TO:<Postmaster>
            S: 250 2.1.5 *
            C: DATA
            S: 354 *
            C: .
            S: 250 *
            S: 250 *
            S: 250 *
            """, check=check, prepare=knows_more)

    def test_utf8_path_needs_smtputf8(self) -> None:
        """D10: 550 5.6.7 for MAIL, 553 5.6.7 for RCPT without the parameter (RFC 6531 section 3.5)."""
        def check(server: Server) -> None:
            (delivery,) = server.stub.committed
            (placement,) = delivery.placements or ()
            self.assertEqual(placement.envelope[:2], ("\u00e4@y".encode(), "gr\u00fc\u00df@x".encode()))
            self.assertIn("with UTF8LMTP id ID-1\r\n\tfor <gr\u00fc\u00df@x>;".encode(), delivery.content)
            self.assertEqual(placement.preamble,
                             "Return-Path: <\u00e4@y>\r\nDelivered-To: gr\u00fc\u00df@x\r\n".encode())

        self.converse(LHLO + r"""
            C: MAIL FROM:<ä@y>
            S: 550 5.6.7 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<grüß@x>
            S: 553 5.6.7 *
            C: RSET
            S: 250 *
            C: MAIL FROM:<ä@y> SMTPUTF8
            S: 250 *
            C: RCPT TO:<gr\xfc\xdf@x>
            S: 501 5.1.3 *
            C: RCPT TO:<grüß@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 250 *
            """, check=check)

    def test_ill_formed_arguments(self) -> None:
        """501 for syntax, 555 for parameters that were not offered (RFC 5321 section 4.1.1.11)."""
        self.converse(LHLO + r"""
            C: MAIL
            S: 501 5.5.4 *
            C: MAIL TO:<s@y>
            S: 501 5.5.4 *
            C: MAIL FROM:s@y
            S: 501 5.1.3 *
            C: MAIL FROM:<s@y
            S: 501 5.1.3 *
            C: MAIL FROM:<s@y>SIZE=1
            S: 501 5.1.3 *
            C: MAIL FROM:<s\r\nevil@y>
            S: 501 5.1.3 *
            S: 500 5.5.2 *
            C: MAIL FROM:<s@y> SIZE=x
            S: 501 5.5.4 *
            C: MAIL FROM:<s@y> SIZE
            S: 501 5.5.4 *
            C: MAIL FROM:<s@y> SIZE=1 SIZE=1
            S: 501 5.5.4 *
            C: MAIL FROM:<s@y> SMTPUTF8=1
            S: 501 5.5.4 *
            C: MAIL FROM:<s@y> =
            S: 501 5.5.4 *
            C: MAIL FROM:<s@y> BODY=BINARYMIME
            S: 555 5.5.4 *
            C: MAIL FROM:<s@y> RET=FULL
            S: 555 5.5.4 *
            C: MAIL FROM:<s@y> body=7bit size=10 smtputf8
            S: 250 *
            C: RCPT TO:<>
            S: 501 5.1.3 *
            C: RCPT FROM:<a@x>
            S: 501 5.5.4 *
            C: RCPT TO:<a@x> NOTIFY=NEVER
            S: 555 5.5.4 *
            C: RCPT TO:<a@x> =
            S: 501 5.5.4 *
            """, policy=LmtpPolicy(bad_commands=100))

    def test_router_says_what_is_wrong(self) -> None:
        """Unknown user, unknown domain, no answer: each its own code."""
        self.converse(LHLO + """
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<nobody@x>
            S: 550 5.1.1 *
            C: RCPT TO:<a@elsewhere>
            S: 550 5.1.2 *
            C: RCPT TO:<a@down>
            S: 451 4.3.0 *
            """)


class RefusalTests(ConversationCase):
    def test_declared_size(self) -> None:
        """D7: 552 at MAIL over the limit (RFC 1870 section 6.1), none at the limit."""
        self.converse("""
            S: 220 *
            C: LHLO mx.example
            S: (lines)
            S: 250 SIZE 1000
            C: MAIL FROM:<s@y> SIZE=1001
            S: 552 5.3.4 *
            C: MAIL FROM:<s@y> SIZE=1000
            S: 250 2.1.0 *
            """, policy=LmtpPolicy(size_octets=1000))

    def test_undeclared_size(self) -> None:
        """D7: read to the dot, one 552 a recipient (RFC 1870 section 6.3), and the next message fits."""
        def check(server: Server) -> None:
            refused = [one for one in server.stub.deliveries if one.aborted]
            self.assertLessEqual(sum(one.octets for one in refused), len(RECEIVED) + 1000)

        self.converse(f"""
            S: 220 *
            C: LHLO mx.example
            S: (lines)
            S: 250 SIZE 1000
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: RCPT TO:<b@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: {'x' * 600}
            C: {'y' * 600}
            C: .
            S: 552 5.3.4 *
            S: 552 5.3.4 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: ..{'z' * 997}
            C: .
            S: 250 *
            """, policy=LmtpPolicy(size_octets=1000), stored=[b"." + b"z" * 997 + b"\r\n"], check=check)

    def test_too_many_recipients(self) -> None:
        """452 4.5.3 past the limit (RFC 5321 section 4.5.3.1.10); those accepted stay."""
        rcpts = "".join(f"C: RCPT TO:<user{n}@x>\nS: 250 *\n" for n in range(100))
        self.converse(LHLO + "C: MAIL FROM:<>\nS: 250 *\n" + rcpts + """
            C: RCPT TO:<user100@x>
            S: 452 4.5.3 *
            C: RCPT TO:<user1@x>
            S: 452 4.5.3 *
            C: DATA
            S: 354 *
            C: .
            """ + "S: 250 2.0.0 *\n" * 100 + "C: NOOP\nS: 250 2.0.0 ok",
            policy=LmtpPolicy(recipients=100))

    def test_store_fails_at_commit(self) -> None:
        """No 2xx then: 451 for every recipient (L16), and the session goes on."""
        def fails(server: Server) -> None:
            server.stub.commit_fault = StoreUnavailable("disk on fire")

        self.converse(LHLO + """
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: RCPT TO:<b@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 451 4.3.0 *
            S: 451 4.3.0 *
            C: NOOP
            S: 250 *
            """, prepare=fails)

    def test_store_fails_while_content_comes(self) -> None:
        """The rest is read to the dot and dropped; 452 4.3.1 for each recipient; nothing is committed."""
        def fails(server: Server) -> None:
            server.stub.write_fault, server.stub.write_fault_after = StoreFull("no space"), 200

        def check(server: Server) -> None:
            (delivery,) = server.stub.deliveries
            self.assertEqual((delivery.aborted, delivery.placements), (True, None))

        self.converse(TO_A + f"""
            C: DATA
            S: 354 *
            C: {'x' * 400}
            C: {'y' * 400}
            C: .
            S: 452 4.3.1 *
            C: NOOP
            S: 250 *
            """, prepare=fails, check=check)

    def test_store_breaks_its_contract(self) -> None:
        """A strange exception answers as an outage; so do outcomes that cannot be matched."""
        def strange(server: Server) -> None:
            server.stub.commit_fault = ZeroDivisionError("a bug")

        script = TO_A + """
            C: DATA
            S: 354 *
            C: .
            S: 451 4.3.0 *
            C: NOOP
            S: 250 *
            """
        self.converse(script, prepare=strange)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 10)

        def raises(server: Server) -> None:
            def deliver() -> None:
                raise ZeroDivisionError("a bug")
            server.stub.deliver = deliver   # type: ignore[method-assign, assignment]

        self.converse(script, prepare=raises)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 10)

        def says_too_much(server: Server) -> None:
            server.stub.later = lambda function: succeed(   # type: ignore[method-assign]
                [None, None] if "outcomes" in function.__name__ else function())

        self.converse(script, prepare=says_too_much)

    def test_long_lines(self) -> None:
        """A line of 565 octets is taken, a longer one dropped to its end and answered once."""
        fits = "NOOP " + "x" * (565 - 7)
        self.converse(GREETING + f"""
            C: {fits}
            S: 250 *
            C: {fits}x
            S: 500 5.5.2 line too long
            C: {'z' * 5000}
            S: 500 5.5.2 line too long
            C: NOOP
            S: 250 *
            """)

    def test_longest_legal_mail(self) -> None:
        """A path of 256 octets with every parameter (RFC 5321 section 4.5.3.1, RFC 1870, 6152, 6531)."""
        path = "s" * 64 + "@" + ".".join(["d" * 63] * 3)[:187] + ".yy"
        self.converse(LHLO + f"""
            C: MAIL FROM:<{path}> SIZE=00000000000052428800 BODY=8BITMIME SMTPUTF8
            S: 250 *
            """)

    def test_bad_commands(self) -> None:
        """20 in a row end it with 421; a good one begins the count anew."""
        bad = "C: XYZZY\nS: 500 *\n"
        self.converse(GREETING + bad * 19 + "C: NOOP\nS: 250 *\n" + bad * 19 + """
            C: XYZZY
            S: 421 4.7.0 *
            S: (closed)
            """)

    def test_binary_rubbish(self) -> None:
        """What is no command gets one reply a line."""
        self.converse(GREETING + r"""
            C: \x00\x01\x02
            S: 500 5.5.2 *
            C: \xff\xfe
            S: 500 5.5.2 *
            C:
            S: 500 5.5.2 *
            C: \x20NOOP
            S: 500 5.5.2 *
            """)


class OutcomeTests(ConversationCase):
    def test_replies_as_soon_as_known(self) -> None:
        """D11: what the store knows is told; only the third recipient's reply waits (RFC 2033 section 5)."""
        def third_is_slow(server: Server) -> None:
            server.stub.outcomes[b"c@x"] = Deferred()

        def events(server: Server) -> dict[str, Callable[[], object]]:
            def done() -> None:
                server.stub.outcomes[b"c@x"].callback(None)
            return {"third is stored": done}

        self.converse(LHLO + """
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: RCPT TO:<b@x>
            S: 250 *
            C: RCPT TO:<c@x>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 250 2.0.0 *
            S: 250 2.0.0 *
            S: (nothing)
            E: third is stored
            S: 250 2.0.0 *
            S: 250 2.0.0 *
            C: QUIT
            S: 221 *
            """, prepare=third_is_slow, events=events)

    def test_late_outcome_that_is_a_fault(self) -> None:
        """It keeps out that recipient alone."""
        def second_is_slow(server: Server) -> None:
            server.stub.outcomes[b"b@x"] = Deferred()

        def events(server: Server) -> dict[str, Callable[[], object]]:
            def fail() -> None:
                server.stub.outcomes[b"b@x"].errback(StoreFull("the second disk"))
            return {"second fails": fail}

        self.converse(LHLO + """
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: RCPT TO:<b@x>
            S: 250 *
            C: RCPT TO:<c@x>
            S: 250 *
            C: DATA
            S: 354 *
            C: .
            S: 250 2.0.0 *
            S: (nothing)
            E: second fails
            S: 452 4.3.1 *
            S: 250 2.0.0 *
            """, prepare=second_is_slow, events=events)
