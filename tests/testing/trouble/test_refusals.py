"""Commands that are refused, answered otherwise, not carried out, or carried out unasked."""

from __future__ import annotations

from tests.testing.trouble.scene import (
    DELE,
    GREETING,
    LIST,
    NOOP,
    PASS,
    QUIT,
    RETR_1,
    RETR_2,
    STAT,
    TOP_1_0,
    UIDL,
    USER,
    FaultCase,
)


class ErrorTests(FaultCase):
    """error, answer."""

    def test_error(self) -> None:
        """With any response code, at any command, which is not carried out; its neighbours are."""
        self.fault("error", command="DELE", code="SYS/TEMP", text="not now")
        client = self.log_in()
        self.assertEqual(client.say(b"NOOP\r\nDELE 1\r\nLIST\r\n"),
                         NOOP + b"-ERR [SYS/TEMP] not now\r\n" + LIST)
        client.say(b"QUIT\r\n")
        self.assertEqual(self.holds(), ["uid-one", "uid-two"])

    def test_plain(self) -> None:
        self.fault("error", command="STAT", text="")
        self.assertEqual(self.said(self.log_in(), b"STAT"), b"-ERR\r\n")

    def test_executed(self) -> None:
        """Refused, and carried out all the same."""
        self.fault("error", command="DELE 1", execute=True)
        client = self.log_in()
        self.assertEqual(client.say(b"DELE 1\r\nDELE 2\r\nQUIT\r\n"), b"-ERR refused\r\n" + DELE + QUIT)
        self.assertEqual(self.holds(), [])

    def test_closing(self) -> None:
        self.fault("error", command="STAT", close=True)
        client = self.log_in()
        self.assertEqual(client.say(b"STAT\r\nLIST\r\n"), b"-ERR refused\r\n")
        self.assertTrue(client.closed)

    def test_at_the_greeting(self) -> None:
        self.fault("error", command="greeting", code="SYS/TEMP", close=True)
        client = self.server.talk()
        self.assertEqual((client.received, client.closed), (b"-ERR [SYS/TEMP] refused\r\n", True))

    def test_in_an_exchange(self) -> None:
        """The answer to a challenge is refused; the exchange is over, and commands are commands again."""
        self.fault("error", command="response", code="AUTH")
        client = self.connect()
        self.assertEqual(client.say(b"AUTH PLAIN\r\n"), b"+ \r\n")
        self.assertEqual(client.say(b"AG1yb3NlAHNlY3JldA==\r\n"), b"-ERR [AUTH] refused\r\n")
        self.assertEqual(client.say(b"USER mrose\r\n"), USER)

    def test_answer(self) -> None:
        """One line or many, as text, or octet for octet."""
        client = self.log_in()
        with self.fault("answer", command="STAT", text="+OK 3 999"):
            self.assertEqual(self.said(client, b"STAT"), b"+OK 3 999\r\n")
        with self.fault("answer", command="LIST", text="+OK\n1 2\n3 4\n.\n"):
            self.assertEqual(self.said(client, b"LIST"), b"+OK\r\n1 2\r\n3 4\r\n.\r\n")
        with self.fault("answer", command="STAT", text={"hex": "2b4f4b00ff0a"}, raw=True):
            self.assertEqual(self.said(client, b"STAT"), b"+OK\0\xff\n")
        with self.fault("answer", command="STAT", text="", raw=True):
            self.assertEqual(self.said(client, b"STAT"), b"")
        self.assertEqual(self.said(client, b"STAT"), STAT)

    def test_answer_to_what_is_no_command(self) -> None:
        """XTND, say, which a server may know."""
        self.fault("answer", command="XTND", text="+OK")
        self.assertEqual(self.said(self.log_in(), b"XTND XMIT"), b"+OK\r\n")


class LoginTests(FaultCase):
    """login: refused, whichever way."""

    def test_locked_at_first(self) -> None:
        self.fault("login", times=2)
        client = self.connect()
        locked = b"-ERR [IN-USE] maildrop already locked\r\n"
        self.assertEqual(client.say(b"USER mrose\r\nPASS secret\r\n"), USER + locked)
        self.forget(client)
        self.assertEqual(client.say(b"AUTH PLAIN AG1yb3NlAHNlY3JldA==\r\n"), locked)
        self.forget(client)
        self.assertEqual(client.say(b"USER mrose\r\nPASS secret\r\n"), USER + PASS)

    def test_refused_although_logged_in(self) -> None:
        """The maildrop is locked, for this client and for others."""
        self.fault("login", execute=True, session=1, code="AUTH", text="no")
        client = self.connect()
        self.assertEqual(client.say(b"USER mrose\r\nPASS secret\r\n"), USER + b"-ERR [AUTH] no\r\n")
        other = self.connect()
        self.assertIn(b"[IN-USE]", other.say(b"USER mrose\r\nPASS secret\r\n"))
        self.assertEqual([one.succeeded for one in self.server.sessions[0].logins], [True])

    def test_of_one_user(self) -> None:
        """Whoever says so: by USER, APOP, or PLAIN."""
        self.server.account("other", "secret")
        self.fault("login", user="mrose", text="not mrose")
        client = self.connect()
        self.assertIn(b"not mrose", client.say(b"AUTH PLAIN AG1yb3NlAHNlY3JldA==\r\n"))
        self.assertIn(b"not mrose", client.say(b"APOP mrose 0123456789abcdef0123456789abcdef\r\n"))
        self.assertIn(b"not mrose", client.say(b"USER mrose\r\nPASS secret\r\n"))
        self.forget(client)
        self.assertEqual(client.say(b"USER other\r\nPASS secret\r\n")[:len(USER) + 3], USER + b"+OK")


class PretenceTests(FaultCase):
    """pretend, quit."""

    def test_dele(self) -> None:
        self.fault("pretend", command="DELE 1")
        client = self.log_in()
        self.assertEqual(client.say(b"DELE 1\r\nDELE 2\r\nRETR 1\r\nQUIT\r\n"), DELE + DELE + RETR_1 + QUIT)
        self.assertEqual(self.holds(), ["uid-one"])

    def test_rset(self) -> None:
        """RSET that does not unmark."""
        self.fault("pretend", command="RSET", text="+OK reset")
        client = self.log_in()
        self.assertEqual(client.say(b"DELE 1\r\nRSET\r\nQUIT\r\n"), DELE + b"+OK reset\r\n" + QUIT)
        self.assertEqual(self.holds(), ["uid-two"])

    def quit(self, **settings: object) -> tuple[bytes, bool, list[str]]:
        self.fault("quit", **settings)
        client = self.log_in()
        client.say(b"DELE 1\r\nDELE 2\r\n")
        self.forget(client)
        return client.say(b"QUIT\r\n"), client.closed, self.holds()

    def test_quit_fails(self) -> None:
        self.assertEqual(self.quit(how="fails"), (
            b"-ERR some deleted messages not removed\r\n", True, ["uid-one", "uid-two"]))
        self.assertEqual(self.server.deleted, [])

    def test_quit_lies(self) -> None:
        self.assertEqual(self.quit(how="lies"), (QUIT, True, ["uid-one", "uid-two"]))
        self.assertEqual(self.server.deleted, [])

    def test_quit_is_silent(self) -> None:
        self.assertEqual(self.quit(how="silent"), (b"", True, []))
        self.assertEqual(self.server.deleted, ["uid-one", "uid-two"])

    def test_quit_removes_some(self) -> None:
        self.assertEqual(self.quit(how="partly"), (QUIT, True, ["uid-two"]))

    def test_quit_keeps_some(self) -> None:
        self.assertEqual(self.quit(how="partly", keeps=[1], told=True), (
            b"-ERR some deleted messages not removed\r\n", True, ["uid-one"]))

    def test_quit_stays(self) -> None:
        self.assertEqual(self.quit(how="stays"), (QUIT, False, []))

    def test_quit_before_the_login(self) -> None:
        self.fault("quit", how="partly")
        client = self.connect()
        self.assertEqual((client.say(b"QUIT\r\n"), client.closed), (QUIT, True))


class OrderTests(FaultCase):
    """early, misheard."""

    def test_early(self) -> None:
        """The reply to a command comes with that before it; the command itself has no other."""
        self.fault("early", command="STAT", next="LIST")
        client = self.log_in()
        self.assertEqual(client.say(b"STAT\r\n"), STAT + LIST)
        self.assertEqual(client.say(b"LIST\r\n"), b"")
        self.assertEqual(client.say(b"LIST\r\n"), LIST)
        self.assertEqual(self.server.sessions[-1].verbs[2:], ["STAT", "LIST", "LIST"])

    def test_early_for_nothing(self) -> None:
        """A client that says another command then has it answered."""
        self.fault("early", command="STAT", next="RETR 1")
        client = self.log_in()
        self.assertEqual(client.say(b"STAT\r\nUIDL\r\nRETR 1\r\n"), STAT + RETR_1 + UIDL + RETR_1)

    def test_early_words(self) -> None:
        """A reply is said; what it is the reply to is carried out, and not answered."""
        self.fault("early", command="USER", text="+OK welcome")
        client = self.connect()
        self.assertEqual(client.say(b"USER mrose\r\n"), USER + b"+OK welcome\r\n")
        self.forget(client)
        self.assertEqual(client.say(b"PASS secret\r\n"), b"")
        self.assertEqual(client.say(b"STAT\r\n"), STAT)

    def test_early_in_the_greeting(self) -> None:
        self.fault("early", command="greeting", text="+OK and again")
        self.assertEqual(self.server.talk().received, GREETING + b"+OK and again\r\n")

    def test_misheard(self) -> None:
        """Another message, the whole of it, or another command."""
        client = self.log_in()
        for given, carried_out, reply in ((b"RETR 1", "RETR 2", RETR_2), (b"TOP 1 0", "RETR {1}", RETR_1),
                                          (b"TOP 1 50", "TOP {1} 0", TOP_1_0), (b"NOOP", "STAT", STAT)):
            with self.fault("misheard", command=given.split()[0].decode(), **{"as": carried_out}):
                self.assertEqual(self.said(client, given), reply)
        self.assertEqual(self.server.sessions[-1].retrieved, ["uid-two", "uid-one"])


class CapabilityTests(FaultCase):
    """capabilities."""

    def words(self, **settings: object) -> list[bytes]:
        with self.fault("capabilities", **settings):
            client = self.connect()
            reply = self.said(client, b"CAPA")
        self.assertTrue(reply.startswith(b"+OK") and reply.endswith(b"\r\n.\r\n"))
        return reply.split(b"\r\n")[1:-2]

    def test_hidden_added_only(self) -> None:
        before = self.said(self.connect(), b"CAPA").split(b"\r\n")[1:-2]
        self.assertTrue({b"TOP", b"UIDL", b"STLS"} < set(before))
        self.assertEqual(self.words(hide=["uidl", "SASL"]),
                         [word for word in before if word != b"UIDL" and not word.startswith(b"SASL")])
        self.assertEqual(self.words(add=["X-FAST", "EXPIRE 0"]), [*before, b"X-FAST", b"EXPIRE 0"])
        self.assertEqual(self.words(only=["USER"]), [b"USER"])
        self.assertEqual(self.words(only=[]), [])
