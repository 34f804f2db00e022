"""LMTP over a transport: move octets between it, a Session and a store. Decides nothing.

`LMTPFactory` serves TCP and unix sockets alike. It must never listen on port 25 (RFC 2033 section
5): a client there speaks SMTP and expects one reply to a message, not one a recipient.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.interfaces import IDelivery, IMaildropStore, IRouter
from mailgate.lmtp import replies
from mailgate.lmtp.effects import CLOSE, START_TLS, Ask, Delivered, Effect, Learn, Route, Signal, Write
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.lmtp.session import Session, Surroundings
from mailgate.net.connection import LATER, Connection
from mailgate.net.factory import STOP_GRACE_SECONDS, STOP_STORING_SECONDS, ServerFactory
from mailgate.wire.shown import shown

MOST_TURNS = 2              # then other connections have theirs, whatever waits here
LOGGED_RECIPIENTS = 20      # of one message, one by one; the others are counted

log = Logger()


class LMTPProtocol(Connection):
    """One connection."""

    __slots__ = ("_delivery", "_dismissed", "_steps", "_since")

    _session: Session
    conversation: type[Session] = Session

    def __init__(self, factory: LMTPFactory) -> None:
        super().__init__(factory)
        self._delivery: IDelivery | None = None
        self._dismissed = False                  # to be closed when the commit is done
        self._steps = 0                          # of the session, by
        self._since = 0.0                        # the time since which there was no other

    def _converse(self, *, secure: bool) -> Session:
        factory = self.factory
        return self.conversation(factory.policy, Surroundings(
            factory.hostname, self.peer, secure, factory.now_ms, factory.new_id,
            can_start_tls=factory.tls is not None and not secure))

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Greet."""
        self._since = self.factory.clock.seconds()
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget a message that was not all there. One that is being stored is stored."""
        super().connectionLost(reason)
        self._session.hang_up()
        if not self._session.committing:
            self._abort()
            self.factory.ended(self)

    def tick(self, now: float) -> None:
        """Cut a client that takes nothing or does not let go; take leave of one that brings nothing.

        Talk is nothing: only what brings mail nearer gives a client more time.
        """
        policy = self.factory.policy
        stuck = self._stuck_seconds(now)
        if stuck is not None:
            if stuck >= policy.progress_seconds:
                self.cut()
        elif not self._session.asking and now - self._since >= policy.idle_seconds:
            if self._handshake is not None:
                self.cut()
            else:
                self._run(self._session.stop(replies.IDLE_TOO_LONG))

    def dismiss(self) -> None:
        """Close for a shutdown; a message that is being stored is answered first."""
        if self._handshake is not None:
            self.cut()
        elif self._session.committing:
            self._dismissed = True
        elif not self._closing:
            self._run(self._session.stop(replies.STOPPING))

    def cut(self) -> None:
        """End the connection at once; what was not taken yet is lost. Never while committing."""
        if not self._session.committing:
            super().cut()

    # Turns ----------------------------------------------------------------------------------

    def _run(self, turn: list[Effect] | None = None) -> None:
        """Advance the session while there is something to do and room for answers."""
        session = self._session
        turns = 0
        if turn:
            self._apply(turn)
        while not (session.asking or self._congested or self._closing):
            if turns == MOST_TURNS:
                self._let_others()
                break
            turns += 1
            effects = session.advance()     # of a conversation that TLS has ended: nothing
            if not effects:
                break
            self._apply(effects)
        if self._session.steps != self._steps:
            self._steps, self._since = self._session.steps, self.factory.clock.seconds()
        # few pipelined octets may wait, and none for a store that has not taken what it was given
        self._read_on(not session.writing and session.pending <= self.factory.policy.backlog_octets)

    def _apply(self, effects: list[Effect]) -> None:
        """Carry out a turn: its octets leave in one write; an ask that is answered at once goes on."""
        octets: list[bytes] = []
        while effects:
            result = LATER
            for effect in effects:
                if isinstance(effect, bytes):
                    octets.append(effect)
                elif isinstance(effect, Signal):
                    if effect is CLOSE:
                        self._write(octets)
                        self._close()
                        return
                    if effect is START_TLS:
                        self._start_tls(octets)
                        return
                    self._abort()
                elif isinstance(effect, Delivered):
                    self._note(effect)
                else:
                    result = self._perform(effect)
            effects = self._session.outcome(result) if result is not LATER else []
        self._write(octets)

    def _start_tls(self, octets: list[bytes]) -> None:
        """Begin the conversation anew inside TLS."""
        if self._session.pending:
            # Said in clear behind STARTTLS, by whoever could reach the wire: never to be executed.
            log.info("octets behind STARTTLS from {peer}", peer=self.peer)
            self.cut()
        elif self.transport is not None:
            self._write(octets)
            self._begin_tls(self._converse(secure=True), [])

    # Asks -------------------------------------------------------------------------------------

    def _begin(self, ask: Ask) -> object:
        if isinstance(ask, Route):
            return self.factory.router.route(ask.path)
        if isinstance(ask, Learn):
            return ask.outcome
        if self._delivery is None:
            self._delivery = self.factory.store.deliver()
        if isinstance(ask, Write):
            return self._delivery.write(ask.content)
        delivery, self._delivery = self._delivery, None
        return delivery.commit(ask.placements, delivery_id=ask.delivery_id)

    def _go_on(self, result: object) -> None:
        """Take an outcome that came later. Only that of a commit matters when the client is gone."""
        session = self._session
        if (self.transport is None or self._closing) and not session.committing:
            return
        self._heard = self.factory.clock.seconds()
        self._apply(session.outcome(result))
        if session.committing:
            return
        if self.transport is None:
            self.factory.ended(self)
        elif self._dismissed:
            self.dismiss()
        else:
            self._run()

    def _abort(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.abort()

    @property
    def shown_peer(self) -> str:
        """The client, as a log line shows it."""
        return (self.peer or "unix socket") + (f" ({self.tls})" if self.tls else "")

    @property
    def delivery_id(self) -> str:
        """Of the message that came last."""
        return self._session.delivery_id

    def _note(self, told: Delivered) -> None:
        """Write the one log line of a message."""
        fates = [f"<{shown(path)}> {_fate(fault)}" for path, fault in told.fates[:LOGGED_RECIPIENTS]]
        more = len(told.fates) - len(fates)
        stored = sum(fault is None for _, fault in told.fates)
        self.factory.tell(log, f"{told.delivery_id}: from <{shown(told.sender)}> by {self.shown_peer}, "
                          f"{told.octets} octets, {stored} of {len(told.fates)} stored: {', '.join(fates)}"
                          + (f", {more} more" if more else ""))


def _fate(fault: BaseException | None) -> str:
    return "stored" if fault is None else f"refused ({type(fault).__name__}: {shown(str(fault))})"


class LMTPFactory(ServerFactory):
    """Serves a store and the router that knows its recipients.

    `hostname` is ASCII: our name in greeting and Received fields. `clock`: IReactorTime, the global
    reactor unless given; it also tells arrival times, so that its seconds are those since 1970.
    `new_id` may be replaced: it makes delivery ids, from arrival times in milliseconds.
    """

    connection: type[LMTPProtocol] = LMTPProtocol

    def __init__(self, store: IMaildropStore, router: IRouter, *, hostname: str,
                 policy: LmtpPolicy = LmtpPolicy(), clock: IReactorTime | None = None,
                 tls: Any = None) -> None:
        super().__init__(clock, policy.idle_seconds, policy.progress_seconds)
        self.store = store
        self.router = router
        self.hostname = hostname
        self.policy = policy
        self.tls = tls
        self.new_id: Callable[[int], str] = fresh_id

    def _connection(self, addr: IAddress | None) -> Protocol:
        return self.connection(self)

    def _tell_left(self) -> None:
        for connection in self.idle.watched:
            assert isinstance(connection, LMTPProtocol)
            log.warn("{delivery_id}: by {peer}, not stored {seconds} s after the stop began: not waited for"
                     " any longer, not acknowledged", delivery_id=connection.delivery_id,
                     peer=connection.shown_peer, seconds=STOP_GRACE_SECONDS + STOP_STORING_SECONDS)

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        return int(self.clock.seconds() * 1000)


def fresh_id(arrived_ms: int) -> str:
    """Return a delivery id that no other process makes: the time, then chance, in hexadecimal."""
    return f"{arrived_ms:011X}-{secrets.token_hex(6).upper()}"
