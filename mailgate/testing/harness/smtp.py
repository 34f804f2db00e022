"""SMTP, to bring mail into a harness as any program sends it: Twisted's ESMTP over our router and store.

Accounts and SDPS hosts receive; nothing is relayed. What is stored is what LMTP would store: the envelope is
kept, a Received field is put in front, and where there are several recipients all get the message, or none.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.assembly.listeners import lmtp_policy
from mailgate.errors import (
    BadSequence,
    MailgateError,
    MessageTooLarge,
    NonAsciiRecipient,
    NonAsciiSender,
    StoreUnavailable,
)
from mailgate.interfaces import IDelivery, IMaildropStore, IRouter
from mailgate.lmtp import replies
from mailgate.lmtp.commands import read_mail, read_rcpt
from mailgate.lmtp.content import Content
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.lmtp.transaction import Transaction
from mailgate.net.factory import ServerFactory
from mailgate.testing.harness.deliveries import Conversation, Recorded
from mailgate.testing.harness.twisted_smtp import ESMTP
from mailgate.wire.headers import received_line

LINE_OCTETS = 4 * 1024 * 1024       # of content, too: messages of tests have long lines on purpose
COMMAND, DATA = "COMMAND", "DATA"   # twisted.mail.smtp's names for what a line belongs to

log = Logger()


@implementer(IHandshakeListener)
class SMTPConnection(Recorded, ESMTP):
    """One connection. Greeting, EHLO, STARTTLS and QUIT are Twisted's; what carries mail is ours."""

    MAX_LENGTH = LINE_OCTETS
    noisy = False
    timeout = None              # type: ignore[assignment]  # silence is judged by the listener's idle clock
    factory: SMTPFactory
    transport: Any

    def __init__(self, factory: SMTPFactory) -> None:
        super().__init__(contextFactory=factory.tls)
        self.factory = factory
        self.host = factory.hostname
        self.talk = Conversation(factory.harness.deliveries, factory.shown_as, replies_each=False,
                                 line_end=self.delimiter)
        self._transaction: Transaction | None = None
        self._content: Content | None = None
        self._delivery: IDelivery | None = None
        self._id = ""
        self._arrived_ms = 0
        self._extended = False      # EHLO was said
        self._deaf = False          # to what came with STARTTLS, in clear
        self._heard = 0.0
        self._over = False

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        self.begin_record()
        self._heard = self.factory.clock.seconds()
        self.factory.idle.add(self)
        super().connectionMade()

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        self.talk.in_tls(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        self.talk.hear(data)
        self._deaf = False
        self._heard = self.factory.clock.seconds()
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line, unless somebody put it behind STARTTLS in clear."""
        if not (self._deaf or self._over):
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse to go on."""
        self.sendCode(500, b"5.5.2 line too long")
        self.dismiss()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget a message that was not all there."""
        self.end_record(reason)
        self._forget()
        self._over = True
        self.factory.ended(self)

    # Watched ----------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Take leave of a client that says nothing; cut one that does not let go."""
        policy = self.factory.policy
        if self._over:
            if now - self._heard >= policy.idle_seconds + policy.progress_seconds:
                self.cut()
        elif now - self._heard >= policy.idle_seconds:
            self._write(replies.IDLE_TOO_LONG)
            self.dismiss()

    def dismiss(self) -> None:
        """Close when all is out."""
        self.closes()
        self._over = True
        self.transport.loseConnection()

    def cut(self) -> None:
        """Close at once."""
        self._how = self._how or "cut by the server"
        self._over = True
        self.transport.abortConnection()

    # Commands ---------------------------------------------------------------------------------

    def greeting(self) -> bytes:
        """Return the words behind 220."""
        return self.host + b" ESMTP mailgate harness"

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        """Return what EHLO announces."""
        offered: dict[bytes, list[bytes] | None] = {b"8BITMIME": None, b"SMTPUTF8": None}
        offered[b"SIZE"] = [b"%d" % self.factory.policy.size_octets]
        if self.canStartTLS and not self.startedTLS:
            offered[b"STARTTLS"] = None
        return offered

    def lookupMethod(self, command: bytes) -> Any:
        """Return who carries a command out, or None."""
        return super().lookupMethod(command) if command.isalpha() and command.isascii() else None

    def do_HELO(self, rest: bytes) -> None:
        """Introduce; what was begun is forgotten (RFC 5321 section 4.1.4)."""
        self._forget()
        self._extended = False
        super().do_HELO(rest)

    def do_EHLO(self, rest: bytes) -> None:
        """The same, with extensions."""
        self._forget()
        self._extended = True
        super().do_EHLO(rest)

    def ext_STARTTLS(self, rest: bytes) -> None:
        """Begin TLS; the client introduces itself anew inside (RFC 3207 section 4.2)."""
        before = self.startedTLS
        super().ext_STARTTLS(rest)
        if self.startedTLS and not before:
            self.talk.begin_tls()
        if self.startedTLS:
            self._forget()
            self._helo = (None, self._helo[1])
            self._deaf, self._buffer = True, b""

    def ext_AUTH(self, rest: bytes) -> None:
        """Nobody logs in here."""
        self.do_UNKNOWN(rest)

    def do_MAIL(self, rest: bytes) -> None:
        """Begin a transaction."""
        try:
            if self._transaction is not None:
                raise BadSequence("MAIL within a transaction")
            sender, options = read_mail(rest, self.factory.policy)
            if not (sender.isascii() or options.utf8):
                raise NonAsciiSender("MAIL without SMTPUTF8")
            if 0 < self.factory.policy.size_octets < options.size_octets:
                raise MessageTooLarge(f"SIZE={options.size_octets}")
        except MailgateError as fault:
            self._refuse(fault)
            return
        self._transaction = Transaction(sender, utf8=options.utf8,
                                        most_recipients=self.factory.policy.recipients)
        self._write(replies.SENDER_OK)

    def do_RCPT(self, rest: bytes) -> None:
        """Add a recipient, once the router knows it."""
        transaction = self._transaction
        try:
            if transaction is None:
                raise BadSequence("RCPT without MAIL")
            path = read_rcpt(rest)
            if not (path.isascii() or transaction.utf8):
                raise NonAsciiRecipient("RCPT without SMTPUTF8")
            known = transaction.accept_again(path)
        except MailgateError as fault:
            self._refuse(fault)
            return
        if known:
            self._write(replies.RECIPIENT_OK)
        else:
            self.factory.router.route(path).addCallbacks(
                lambda target: self._accept(transaction, path, target),
                lambda failure: self._refuse(failure.value)).addErrback(self._broken)

    def _accept(self, transaction: Transaction, path: bytes, target: Any) -> None:
        transaction.accept(path, target)
        self._say(replies.RECIPIENT_OK)

    def do_DATA(self, rest: bytes) -> None:
        """Take the message up to its dot line."""
        transaction, factory = self._transaction, self.factory
        if transaction is None or not transaction.accepted:
            self._refuse(BadSequence("DATA without a recipient"))
            return
        self._arrived_ms = factory.now_ms()
        self._id = factory.new_id(self._arrived_ms)
        # RFC 3848, RFC 6531 section 4.3
        word = "UTF8SMTP" if transaction.utf8 else "ESMTP" if self._extended else "SMTP"
        self._content = Content(factory.policy, received_line(
            hostname=factory.hostname, protocol=word + ("S" if self.startedTLS else ""),
            delivery_id=self._id, arrived_ms=self._arrived_ms, helo=self._helo[0],
            peer=self._helo[1].decode("ascii", "replace") if isinstance(self._helo[1], bytes)
            else self._helo[1], recipient=transaction.only_path))
        self._delivery = factory.store.deliver()
        self.mode = DATA
        self._write(replies.GO_AHEAD)

    def state_DATA(self, line: bytes) -> None:
        """Take a line of the message, or its end."""
        content, delivery = self._content, self._delivery
        assert content is not None and delivery is not None, "DATA has begun"
        if line != b".":
            delivery.write(content.feed(line.removeprefix(b".") + b"\r\n"))
            return
        self.mode = COMMAND
        delivery.write(content.finish())
        if content.fault is not None:
            self._forget()
            self._refuse(content.fault)
            return
        transaction, self._transaction, self._content, self._delivery = self._transaction, None, None, None
        assert transaction is not None, "DATA has begun"
        stored: Deferred[list[Any]] = delivery.commit(transaction.placements(self._arrived_ms),
                                                      all_or_nothing=True)
        stored.addCallbacks(self._stored, lambda failure: self._refuse(failure.value)).addErrback(
            self._broken)

    def _stored(self, outcomes: list[Any]) -> None:
        faults = [one for one in outcomes if one is not None]
        if not faults:
            self._say(replies.stored(self._id))
            return
        told = [one for one in faults if not isinstance(one, StoreUnavailable)] or faults
        self._refuse(told[0])

    def do_RSET(self, rest: bytes) -> None:
        """Forget the transaction."""
        self._forget()
        self._write(replies.OK)

    def do_NOOP(self, rest: bytes) -> None:
        """Nothing."""
        self._write(replies.OK)

    def do_VRFY(self, rest: bytes) -> None:
        """Tell nothing: RCPT will."""
        self._write(replies.CANNOT_VERIFY)

    def do_QUIT(self, rest: bytes) -> None:
        """Take leave."""
        self._how = self._how or "QUIT"
        super().do_QUIT(rest)

    # Inside -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        """End the transaction."""
        delivery, self._delivery = self._delivery, None
        self._transaction = self._content = None
        if delivery is not None:
            delivery.abort()

    def _refuse(self, fault: BaseException) -> None:
        self._say(replies.refusal(fault))

    def _say(self, octets: bytes) -> None:
        """Answer what may have taken time: the client may be gone."""
        if not self._over:
            self._write(octets)

    def sendLine(self, line: bytes) -> None:
        """Send a line of Twisted's making."""
        self._write(line + b"\r\n")

    def _write(self, octets: bytes) -> None:
        """Send octets: there is no other way out."""
        self.talk.say(octets)
        self.transport.write(octets)

    def _broken(self, failure: Failure) -> None:
        log.failure("an SMTP connection of the harness has failed", failure)
        self.cut()


class SMTPFactory(ServerFactory):
    """Makes connections. `clock` tells seconds since 1970.

    Its `harness` keeps records of them; `shown_as` is the protocol that these have.
    """

    harness: Any
    shown_as = "smtp"

    def __init__(self, store: IMaildropStore, router: IRouter, *, hostname: str, policy: LmtpPolicy,
                 clock: IReactorTime, tls: Any = None) -> None:
        super().__init__(clock, policy.idle_seconds, policy.progress_seconds)
        self.store = store
        self.router = router
        self.hostname = hostname
        self.policy = policy
        self.tls = tls
        self._serials = count(1)

    def _connection(self, addr: IAddress | None) -> Protocol:
        connection: Protocol = SMTPConnection(self)
        return connection

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        return int(self.clock.seconds() * 1000)

    def new_id(self, arrived_ms: int) -> str:
        """Return a delivery id, the same in every run."""
        return f"{arrived_ms:011X}-{next(self._serials):04X}"


def make_smtp_factory(harness: Any, section: Any, tls: Any, doors: Any) -> SMTPFactory:
    """Return the factory of a harness's SMTP listener; `section` is its row, as if it were of LMTP."""
    config = harness.config
    return SMTPFactory(harness.store, doors.router(section), hostname=config.hostname,
                       policy=lmtp_policy(config), clock=harness.clock, tls=tls)
