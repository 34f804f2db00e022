"""BDAT (RFC 3030 section 2, RFC 2033 section 4.3): octets are read whatever becomes of them."""

from __future__ import annotations

from mailgate.errors import StoreFull
from mailgate.lmtp.policy import LmtpPolicy
from tests.lmtp.staging import GREETING, LHLO, TO_A, ConversationCase, Server


class ChunkTests(ConversationCase):
    def test_chunks(self) -> None:
        """One reply a chunk, one a recipient for the last; dots mean nothing, line ends are not added."""
        self.converse(TO_A + r"""
            C: RCPT TO:<b@x>
            S: 250 *
            C: BDAT 7
            C: a\r\n.\r\n.\c
            S: 250 2.0.0 7 octets taken
            C: bdat 0
            S: 250 2.0.0 0 octets taken
            C: BDAT 4 last
            C: \r\nz.\c
            S: 250 2.0.0 stored*
            S: 250 2.0.0 stored*
            C: NOOP
            S: 250 2.0.0 ok
            """, stored=[b"a\r\n.\r\n.\r\nz."])

    def test_empty_last_chunk(self) -> None:
        """`BDAT 0 LAST` ends what came before, or an empty message."""
        self.converse(TO_A + r"""
            C: BDAT 3
            C: a\r\n\c
            S: 250 *
            C: BDAT 0 LAST
            S: 250 2.0.0 stored*
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: BDAT 0 LAST
            S: 250 2.0.0 stored*
            """, stored=[b"a\r\n", b""])

    def test_last_without_recipient_has_no_reply(self) -> None:
        """D4: no RCPT succeeded: the octets are read, nothing is answered (RFC 2033 section 4.3)."""
        self.converse(LHLO + r"""
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<nobody@x>
            S: 550 *
            C: BDAT 5 LAST
            C: QUIT\n\c
            C: NOOP
            S: 250 2.0.0 ok
            C: RCPT TO:<a@x>
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 250 *
            """, check=self.nothing_began)

    def test_last_without_transaction_has_no_reply(self) -> None:
        """The same where MAIL was refused: a pipelining client cannot know that yet."""
        self.converse(GREETING + r"""
            C: BDAT 6 LAST
            C: QUIT\r\n\c
            C: NOOP
            S: 250 2.0.0 ok
            C: MAIL FROM:<s@y>
            S: 503 5.5.1 *
            """, check=self.nothing_began)

    def test_chunk_without_recipient(self) -> None:
        """503 after its octets; a recipient that comes later does not get half a message."""
        self.converse(LHLO + r"""
            C: BDAT 6
            C: QUIT\r\n\c
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 250 *
            C: BDAT 6
            C: QUIT\r\n\c
            S: 503 5.5.1 *
            C: RCPT TO:<a@x>
            S: 503 5.5.1 *
            C: BDAT 6
            C: QUIT\r\n\c
            S: 503 5.5.1 *
            C: RSET
            S: 250 *
            C: MAIL FROM:<s@y>
            S: 250 *
            """, check=self.nothing_began)

    def nothing_began(self, server: Server) -> None:
        self.assertEqual(server.stub.deliveries, [])

    def test_data_and_bdat_do_not_mix(self) -> None:
        """Neither DATA, MAIL nor RCPT after a chunk; RSET forgets it and gives the delivery up."""
        def check(server: Server) -> None:
            self.assertEqual([one.aborted for one in server.stub.deliveries], [True, True])

        self.converse(TO_A + r"""
            C: BDAT 3
            C: a\r\n\c
            S: 250 *
            C: DATA
            S: 503 5.5.1 *
            C: RCPT TO:<b@x>
            S: 503 5.5.1 *
            C: MAIL FROM:<s@y>
            S: 503 5.5.1 *
            C: RSET
            S: 250 2.0.0 ok
            C: BDAT 0 LAST
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: BDAT 3
            C: a\r\n\c
            S: 250 *
            C: LHLO again
            S: (lines)
            S: 250 SIZE *
            """, check=check)

    def test_ill_formed_chunk_closes(self) -> None:
        """Without a length nobody knows where commands go on: content must not become commands."""
        for argument in ("", "x", "-1", "5 FIRST", "5 LAST LAST", "0x5", "123456789012345678901"):
            self.converse(TO_A + f"""
                C: BDAT {argument}
                C: RSET
                S: 501 5.5.4 *
                S: (closed)
                """)

    def test_too_large(self) -> None:
        """552 for the chunk that passes the limit and for those after it; one a recipient for the last."""
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
            C: BDAT 1000
            C: {'x' * 998}
            S: 250 *
            C: BDAT 2
            C:
            S: 552 5.3.4 *
            C: BDAT 2
            C:
            S: 552 5.3.4 *
            C: BDAT 2 LAST
            C:
            S: 552 5.3.4 *
            S: 552 5.3.4 *
            C: NOOP
            S: 250 *
            """, policy=LmtpPolicy(size_octets=1000), stored=[])

    def test_store_fails(self) -> None:
        """The chunk's reply tells it already, RSET begins anew."""
        def fails(server: Server) -> None:
            server.stub.write_fault = StoreFull("no space")

        self.converse(TO_A + r"""
            C: BDAT 3
            C: a\r\n\c
            S: 452 4.3.1 *
            C: BDAT 3 LAST
            C: a\r\n\c
            S: 452 4.3.1 *
            C: NOOP
            S: 250 *
            """, prepare=fails, stored=[])

    def test_bare_cr_at_the_very_end(self) -> None:
        """A CR may be half of a CRLF that the next chunk completes; at the end of the last it is bare."""
        self.converse(TO_A + r"""
            C: BDAT 2
            C: a\r\c
            S: 250 *
            C: BDAT 2 LAST
            C: \nb\c
            S: 250 2.0.0 stored*
            C: MAIL FROM:<s@y>
            S: 250 *
            C: RCPT TO:<a@x>
            S: 250 *
            C: BDAT 2 LAST
            C: a\r\c
            S: 550 5.6.0 *
            """, stored=[b"a\r\nb"])
