"""What AUTH GSSAPI must know of a client's tokens (RFC 4752 section 3.2), asked of libgssapi.

`TicketService` asks, and blocks: `TicketAcceptor` does so in a few threads of its own.
"""

from __future__ import annotations

from typing import Any, Union

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailgate.auth.hashing import HashPool, network_of
from mailgate.auth.kerberos import THREADS, ServiceKey, is_clients
from mailgate.auth.libgssapi import Context, GssFault
from mailgate.auth.sasl import Accepting, AcceptQuestion, TicketQuestion, Unproven
from mailgate.errors import ConfigurationError, StoreUnavailable, TooBusy
from mailgate.principals import parse_principal

CALL_SECONDS = 180.0        # a question that waits longer for its answer is given up
LOOK_SECONDS = 10.0         # how long what a look at the keytab found is taken for true

Answer = Union[Accepting, Unproven, bytes]

log = Logger()


class TicketService:
    """Takes tickets for the service of a key, by its keytab and by no other key in it.

    Everything blocks, and may be called from any thread.
    """

    def __init__(self, key: ServiceKey) -> None:
        self._key = key

    def answer(self, question: TicketQuestion) -> Answer:
        """Return what is behind a token or a message. A client's first token is good once.

        Raises: StoreUnavailable, if it cannot be told because of a fault on this side.
        """
        try:
            context = question.context or self._begun()
            if isinstance(question, AcceptQuestion):
                return self._accept(context, question)
            return bytes(context.unwrap(question.message))
        except GssFault as fault:
            if fault.of_kerberos and not is_clients(fault.of_kerberos):
                raise StoreUnavailable(f"Kerberos: {fault}") from fault
            return Unproven(str(fault))
        except ConfigurationError as fault:
            raise StoreUnavailable(f"Kerberos: {fault}") from fault

    def _accept(self, context: Context, question: AcceptQuestion) -> Answer:
        reply, client = context.accept(question.token, question.binding)
        if client is None:
            return Accepting(context, reply)
        if not client:
            return Unproven("the client hides its name")
        try:
            principal = parse_principal(client)
        except ValueError as fault:
            return Unproven(f"{client}: {fault}")
        return Accepting(context, reply, principal, context.wrap(question.sealed))

    def _begun(self) -> Context:
        """Return a new context. Raises: StoreUnavailable: no client has said anything yet."""
        try:
            return Context(str(self._key.service), self._key.keytab)
        except GssFault as fault:
            raise StoreUnavailable(f"Kerberos: {fault}") from fault

    def faults(self) -> list[str]:
        """Return what keeps the service from working, in words for an operator; empty when nothing does."""
        faults = self._key.faults()
        if not faults:
            try:
                self._begun()
            except StoreUnavailable as fault:
                faults = [f"{self._key.keytab}: {fault}"]
            except ConfigurationError as fault:
                faults = fault.problems
        return faults


class TicketAcceptor:
    """Answers questions about tickets in threads of its own, begun when first needed.

    Lives in the reactor's thread. `works` says what the last look at library and keytab found.
    `seconds`: what waits longer for its answer is given up.
    """

    def __init__(self, service: TicketService, reactor: Any, *, seconds: float = CALL_SECONDS,
                 threads: int = THREADS) -> None:
        self.works = False
        self._service = service
        self._reactor = reactor
        self._seconds = seconds
        self._looked_at: float | None = None
        self._faults: list[str] | None = None
        self._pool = HashPool(reactor, threads=threads)
        self._pool.start()

    def answer(self, question: TicketQuestion, peer: str | None = None) -> Deferred[Answer]:
        """See TicketService.answer. Raises, by the Deferred, TooBusy as well. May be cancelled."""
        asked = self._pool.run(network_of(peer), self._service.answer, question)
        return asked.addTimeout(self._seconds, self._reactor).addErrback(self._too_late)

    def look(self) -> Deferred[None]:
        """Look again whether tickets can be judged, unless that was just done; fires when it is."""
        now = self._reactor.seconds()
        if self._looked_at is not None and now - self._looked_at < LOOK_SECONDS:
            return succeed(None)
        self._looked_at = now
        return Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        try:
            looking = self._pool.run(network_of(None), self._service.faults)
            faults = await looking.addTimeout(LOOK_SECONDS, self._reactor)
        except TimeoutError:
            faults = [f"no look at the keytab ends within {LOOK_SECONDS:g} seconds"]
        except TooBusy:
            return          # or it is stopping; the next one looks again
        if faults != self._faults:
            for words in faults:
                log.error("GSSAPI is not offered: {words}", words=words)
            if self._faults and not faults:
                log.info("GSSAPI is offered again")
        self._faults, self.works = faults, not faults

    def stop(self) -> Deferred[None]:
        """Refuse what waits; fires when the threads have ended."""
        return self._pool.stop()

    def _too_late(self, failure: Failure) -> Failure:
        if not failure.check(TimeoutError):
            return failure
        return Failure(StoreUnavailable(f"Kerberos: no answer within {self._seconds:g} seconds"))
