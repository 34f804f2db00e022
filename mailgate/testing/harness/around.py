"""What faults may do with a connection beside its octets: handshakes, logins, responses, vanishing mail."""

from __future__ import annotations

from collections import Counter
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mailgate.auth.sasl import NamedClaim
from mailgate.auth.sasl.digests import CramMd5
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.net.tls import explained, hindrance, secured
from mailgate.pop3.effects import LogIn, Refuse
from mailgate.testing.harness.flights import FaultyConnection, layer_of
from mailgate.testing.harness.records import SessionRecord
from mailgate.testing.trouble.active import Met
from mailgate.testing.trouble.model import TLS, End, Taker
from mailgate.wire.shown import shown

ANYTHING = "anything"       # in place of what has proven a name


class Around(POP3Protocol):
    """A connection as faults see it: trouble.model.Surroundings. What handshakes come to is recorded."""

    record: SessionRecord

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self._harness: Any = factory.harness
        self._records = factory.harness.records
        self._given: Counter[str] = Counter()       # verbs, how often
        self._how = ""                              # the connection ended, where we know
        self._labels: tuple[str, ...] = ()          # of the faults in what leaves now
        self._handshake_labels: tuple[str, ...] = ()
        self._accepting = False                     # whatever the command proves
        self._takers: list[tuple[Taker, tuple[str, ...]]] = []      # of the client's next response

    def _note(self, text: str, faults: tuple[str, ...] = ()) -> None:
        self._records.note(self.record, "*", text=text, faults=faults)

    @property
    def _named(self) -> str | None:
        """Who the latest USER said he was."""
        name = self._session._name if self._session is not None else None
        return None if name is None else shown(name)

    # TLS --------------------------------------------------------------------------------------

    def meet_handshake(self) -> list[Met]:
        """Return the faults that meet the handshake that begins now."""
        self._given[TLS] += 1
        met: list[Met] = self._harness.trouble.meeting(
            self.record.number, self.record.protocol, self.record.user or self._named, TLS, b"",
            self._given[TLS], self)
        self._handshake_labels = tuple([occasion.fault.label for _, occasion in met])
        if met:
            self._note("the handshake meets trouble", self._handshake_labels)
        return met

    def handshake_ended(self, step: End) -> None:
        """Note that a fault ends the connection in its handshake."""
        self._tell_end_by("reset" if step.torn else "closed", self._handshake_labels)

    def handshake_done_again(self) -> None:
        """Note that the client has agreed to another handshake."""
        self._note("another handshake is done")

    def _tell_end_by(self, how: str, faults: tuple[str, ...]) -> None:
        self._note(how, faults)
        self._how = f"{how} by fault {', '.join(faults)}"

    def handshakeCompleted(self) -> None:
        """Note what TLS came to, and go on."""
        if self._handshake is not None and not self._closing:
            facts = secured(self.transport)
            self.record.tls_details = str(facts)
            name = self.transport.getHandle().get_servername()
            self.record.server_name = None if name is None else shown(name)
            self._note(f"inside TLS: {facts}", self._handshake_labels)
        super().handshakeCompleted()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See POP3Protocol.connectionLost. Why TLS did not come about, or broke off, is noted."""
        layer = layer_of(self.transport)
        if layer is not None:
            if self._handshake is not None:
                why = hindrance(layer, reason) or "the client hung up before it began"
                self._note(f"no TLS: {why}", self._handshake_labels)
                self._how = self._how or f"no TLS: {why}"
            elif reason.check(SSL.Error):
                self._note(f"TLS broke off: {explained(reason.value)}", self._handshake_labels)
                self._how = self._how or f"TLS broke off: {explained(reason.value)}"
            handle = layer.getHandle()
            if isinstance(handle, FaultyConnection):
                handle.forget()
        super().connectionLost(reason)

    def renegotiate(self) -> bool:
        """See Surroundings."""
        layer = layer_of(self.transport)
        handle: Any = None if layer is None else layer.getHandle()
        if layer is None or handle.get_protocol_version() >= SSL.TLS1_3_VERSION:
            self._note("no renegotiation here", self._labels_now())
            return False
        self._note("another handshake is asked for", self._labels_now())
        handle.renegotiate()
        try:
            handle.do_handshake()
        except SSL.WantReadError:
            pass
        layer._flushSendBIO()
        return True

    # Logins -----------------------------------------------------------------------------------

    def take_response(self, taker: Taker) -> None:
        """See Surroundings."""
        self._takers.append((taker, self._labels_now()))

    def _labels_now(self) -> tuple[str, ...]:
        """Return the names of the faults that the present command has met."""
        raise NotImplementedError

    def say_timestamp(self, timestamp: bytes) -> None:
        """See Surroundings."""
        if self._session.timestamp is not None:
            self._session.timestamp = timestamp

    def say_challenge(self, challenge: bytes) -> None:
        """See Surroundings."""
        exchange: Any = self._session._exchange
        if isinstance(exchange, CramMd5):
            exchange._challenge = challenge

    def accept_anything(self) -> None:
        """See Surroundings."""
        self._accepting = True

    def _let_in(self, ask: Any) -> Any:
        """Return an ask, or in place of a login one that needs no proof."""
        if self._accepting and isinstance(ask, (LogIn, Refuse)):
            name = ask.claim.name if isinstance(ask, LogIn) else ask.name
            return LogIn(NamedClaim(name, ANYTHING))
        return ask

    # Mail -------------------------------------------------------------------------------------

    def remove_message(self, number: int) -> None:
        """See Surroundings."""
        if self._maildrop is not None:
            self._harness.remove_behind(self._maildrop, number)
