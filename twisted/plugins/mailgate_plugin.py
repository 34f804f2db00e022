"""`twistd mailgate`. Read for every `twistd --help`, so it imports nothing of mailgate."""

from twisted.application.service import ServiceMaker

mailgate = ServiceMaker(
    "mailgate", "mailgate.tap", "A mail gateway: POP3 and SDPS over one store, filled by LMTP.", "mailgate")
