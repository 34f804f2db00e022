"""What a client claims to be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailgate.auth.credentials import MAX_LOGIN_OCTETS, PasswordLogin, Refused, login_name, octets_of
from mailgate.errors import LoginRefused
from mailgate.wire.faults import ANSWERS, answer_for


class Credentials(SynchronousTestCase):
    """PasswordLogin."""

    def test_is_what_cred_expects(self) -> None:
        """Ordinary checkers take it."""
        verifyObject(IUsernamePassword, PasswordLogin(b"alice", b"secret"))
        checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
        self.assertEqual(b"alice", self.successResultOf(
            checker.requestAvatarId(PasswordLogin(b"alice", b"secret"))))
        self.failureResultOf(checker.requestAvatarId(PasswordLogin(b"alice", b"Secret")), UnauthorizedLogin)

    def test_compares_octets(self) -> None:
        """The exact octets, given as such or as text."""
        login = PasswordLogin(b"alice", " pä".encode())
        self.assertTrue(login.checkPassword(" pä".encode()))
        self.assertTrue(login.checkPassword(" pä"))
        for other in (b"", b"p\xe4", "pä", " pä ", b" p"):
            self.assertFalse(login.checkPassword(other))

    def test_shows_no_password(self) -> None:
        """Neither to a log line nor to a debugger's listing."""
        self.assertNotIn("sesame", repr(PasswordLogin(b"alice", b"sesame", "192.0.2.1")))
        self.assertIn("192.0.2.1", repr(PasswordLogin(b"alice", b"sesame", "192.0.2.1")))

    def test_of_other_applications(self) -> None:
        """Text in credentials is read as UTF-8."""
        self.assertEqual((b"j\xc3\xb6rg", b"p\xc3\xa4"), octets_of(UsernamePassword("jörg", "pä")))
        self.assertEqual((b"\xff", b"\xfe"), octets_of(UsernamePassword(b"\xff", b"\xfe")))

    def test_refusal_is_understood_by_both(self) -> None:
        """Our table answers it as a refused login; an application of twisted.cred knows it too."""
        self.assertIsInstance(Refused("why"), UnauthorizedLogin)
        self.assertIs(ANSWERS[LoginRefused], answer_for(Refused("why")))

    def test_text_tells_nothing(self) -> None:
        """The reason is for the log: other servers may send the text."""
        self.assertEqual(str(Refused("disabled")), str(Refused("no such account")))
        self.assertEqual("disabled", Refused("disabled").reason)


class LoginNames(SynchronousTestCase):
    """What can be a login name at all."""

    def test_no_names(self) -> None:
        """Empty, with a NUL, not UTF-8, or longer than any address."""
        for octets in (b"", b"a\0b", b"\xff", b"j\xf6rg", b"x" * (MAX_LOGIN_OCTETS + 1)):
            self.assertIsNone(login_name(octets))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=400))
    def test_any_octets(self, octets: bytes) -> None:
        """Nothing is trimmed or changed on the way: a name says its octets again."""
        name = login_name(octets)
        if name is not None:
            self.assertEqual(octets, name.encode())
