"""A POP3 server of few words on a real socket, with the faults that a test wants; it notes all it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from mailgate.wire.dots import cut_top, to_wire, unstuff

reactor: Any = installed
PIPELINING = ("TOP", "UIDL", "USER", "PIPELINING")


class Mail:
    """One message there: its unique-id as UIDL shows it, and what it is."""

    def __init__(self, unique_id: bytes, content: bytes) -> None:
        self.unique_id = unique_id
        self.wire = to_wire(content)
        self.content = content


class SourceServer(Factory):
    """Listens while a test runs. `answers` replaces replies by verb: octets, or None to say nothing."""


    def __init__(self, mails: Sequence[Mail], *, capabilities: Sequence[str] | None = PIPELINING,
                 greeting: bytes = b"+OK ready", end: bytes = b"\r\n", refused: Sequence[str] = (),
                 size: Callable[[Mail], int] = lambda mail: len(unstuff(mail.wire)),
                 answers: dict[str, bytes | None] | None = None, dies_at: str = "",
                 context: Any = None) -> None:
        self.mails = mails
        self.capabilities = capabilities
        self.greeting = greeting
        self.end = end
        self.refused = refused          # verbs
        self.size = size
        self.answers = answers or {}
        self.dies_at = dies_at          # a command line
        self.commands: list[str] = []
        self.most_waiting = 0           # commands that came in one piece
        listen = reactor.listenTCP if context is None else reactor.listenSSL
        self.port = listen(0, self, *([] if context is None else [context]), interface="127.0.0.1")
        self.number = int(self.port.getHost().port)

    def verbs(self, *verbs: str) -> list[str]:
        """Return the command lines of some verbs, in order."""
        return [line for line in self.commands if line.split()[0] in verbs]

    def buildProtocol(self, addr: object) -> _Session:
        return _Session(self)


class _Session(LineReceiver):
    delimiter = b"\n"
    transport: Any

    def __init__(self, server: SourceServer) -> None:
        self.server = server

    def connectionMade(self) -> None:
        self.say(self.server.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.server.most_waiting = max(self.server.most_waiting, data.count(b"\n"))
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        text = line.decode("latin-1").strip("\r")
        self.server.commands.append(text)
        verb, *arguments = text.split(" ")
        if text == self.server.dies_at:
            self.transport.abortConnection()
        elif verb in self.server.answers:
            octets = self.server.answers[verb]
            if octets is not None:
                self.transport.write(octets)
        elif verb in self.server.refused:
            self.say(b"-ERR not here")
        else:
            getattr(self, f"on_{verb}", self.on_other)(*arguments)

    def say(self, *lines: bytes) -> None:
        self.transport.write(self.server.end.join([*lines, b""]))

    def on_other(self, *arguments: str) -> None:
        self.say(b"+OK")

    def on_CAPA(self) -> None:
        if self.server.capabilities is None:
            self.say(b"-ERR what?")
        else:
            self.say(b"+OK", *[one.encode() for one in self.server.capabilities], b".")

    def on_LIST(self) -> None:
        sizes = [b"%d %d" % (n, self.server.size(mail)) for n, mail in enumerate(self.server.mails, 1)]
        self.say(b"+OK", *sizes, b".")

    def on_UIDL(self) -> None:
        ids = [b"%d %b" % (n, mail.unique_id) for n, mail in enumerate(self.server.mails, 1)]
        self.say(b"+OK", *ids, b".")

    def on_TOP(self, number: str, lines: str) -> None:
        wire = self.server.mails[int(number) - 1].wire
        head, blank, _ = wire.partition(b"\r\n\r\n")
        self.content(cut_top(wire, len(head + blank), int(lines)))

    def on_RETR(self, number: str) -> None:
        self.content(self.server.mails[int(number) - 1].wire)

    def on_QUIT(self) -> None:
        self.say(b"+OK")
        self.transport.loseConnection()

    def content(self, wire: bytes) -> None:
        self.say(b"+OK", *wire.split(b"\r\n")[:-1], b".")
