"""A POP3 service written for twisted.mail, moved to mailgate by two lines.

    python stand_in.py mailgate.toml [ENDPOINT]

Accounts and mail are those of the configuration.
"""

from __future__ import annotations

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import react

from mailgate.compat import POP3, portal  # was: from twisted.mail.pop3 import POP3


class OurPOP3(POP3):
    """What the application had: a command of its own, and one changed."""

    def do_XCOUNT(self):
        self.successResponse(len(self.mbox.listMessages()))

    def do_DELE(self, i):
        if i == b"1":
            self.failResponse("the first message is kept")
            return None
        return POP3.do_DELE(self, i)


class OurFactory(ServerFactory):
    protocol = OurPOP3

    def __init__(self, portal):
        self.portal = portal

    def buildProtocol(self, address):
        protocol = super().buildProtocol(address)
        protocol.portal = self.portal
        return protocol


async def main(reactor, file, description="tcp:0:interface=127.0.0.1"):
    factory = OurFactory(portal(file, reactor=reactor))     # was: a portal of the application's own
    port = await serverFromString(reactor, description).listen(factory)
    print("listening at port", port.getHost().port, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
