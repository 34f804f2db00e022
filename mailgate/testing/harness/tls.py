"""The TLS of a harness's listener, done right or wrong as the faults say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mailgate.config import ListenSection
from mailgate.net.certificates import Identity
from mailgate.net.tls import Material, ServerTLS
from mailgate.testing.badcertificates import BAD
from mailgate.testing.harness.flights import FaultyConnection
from mailgate.testing.trouble.active import Met
from mailgate.testing.trouble.model import Fault

RENEGOTIATES = "tls_renegotiate"        # the kind of fault that handshakes have to be prepared for
ALPN = b"pop3"
VERSIONS = {"1.0": SSL.TLS1_VERSION, "1.1": SSL.TLS1_1_VERSION, "1.2": SSL.TLS1_2_VERSION,
            "1.3": SSL.TLS1_3_VERSION}
WEAKEST = b":@SECLEVEL=0"               # OpenSSL does what it still can

Settings = Mapping[str, Any]


class LaxTLS(ServerTLS):
    """TLS that OpenSSL finds nothing to object to."""

    options = SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION

    def __init__(self, **more: Any) -> None:
        super().__init__("legacy", **more)


@implementer(IOpenSSLServerConnectionCreator)
class TroubledTLS:
    """What `startTLS` and TLSFactory take: good TLS, unless a fault meets the session."""

    def __init__(self, harness: Any, section: ListenSection) -> None:
        self._harness = harness
        self._more: dict[str, Any] = {"protocol": ALPN,
                                      "client_certificates": section.client_certificates or "no"}
        self._identity: Identity = harness.identity
        self._contexts: dict[tuple[str, str], SSL.Context] = {}     # by fault; tickets are good on one alone
        self._good = ServerTLS(section.tls_profile or "intermediate", **self._more)
        self._good.use(Material(self._identity))

    def serverConnectionForTLS(self, tlsProtocol: Any) -> Any:
        """Return the OpenSSL side of one connection."""
        inner = tlsProtocol.wrappedProtocol
        if not hasattr(inner, "meet_handshake"):        # mail that comes in: no trouble is made there
            return self._good.serverConnectionForTLS(tlsProtocol)
        met: list[Met] = inner.meet_handshake()
        way, settings = next(((kind.tls, occasion.fault.settings) for kind, occasion in met if kind.tls),
                             ("", {}))
        if not way and self._may_renegotiate(inner.record):
            way = RENEGOTIATES
        if not met and not way:
            return self._good.serverConnectionForTLS(tlsProtocol)
        return FaultyConnection(self._context(way, settings), tlsProtocol, inner, self._harness.clock, met)

    def _may_renegotiate(self, record: Any) -> bool:
        """Whether a fault could ask this session's client for another handshake."""
        def could(fault: Fault) -> bool:
            return (fault.do == RENEGOTIATES and (not fault.session or record.number in fault.session)
                    and fault.protocol in (None, record.protocol))

        return any(could(fault) for fault in self._harness.trouble.faults().values())

    def _context(self, way: str, settings: Settings) -> SSL.Context:
        key = way, repr(sorted(settings.items()))
        if key not in self._contexts:
            self._contexts[key] = self._make(way, settings)
        return self._contexts[key]

    def _make(self, way: str, settings: Settings) -> SSL.Context:
        if way in BAD:
            identity: Identity = BAD[way](self._harness.authority, self._harness.names, settings)
            context = LaxTLS(**self._more).prepare(Material(identity))
            context.set_min_proto_version(SSL.TLS1_2_VERSION)
            return context
        if not way:
            return self._good.prepare(Material(self._identity))
        context = LaxTLS(**self._more).prepare(Material(self._identity))
        WAYS[way](context, settings)
        return context


# Ways ---------------------------------------------------------------------------------------------


def _one_version(context: SSL.Context, settings: Settings) -> None:
    context.set_min_proto_version(VERSIONS[settings["version"]])
    context.set_max_proto_version(VERSIONS[settings["version"]])


def _ciphers(context: SSL.Context, settings: Settings) -> None:
    _one_version(context, {"version": "1.2"})
    context.set_cipher_list(settings["ciphers"].encode() + WEAKEST)


def _no_common_cipher(context: SSL.Context, settings: Settings) -> None:
    """The harness's certificate is for an elliptic curve: no cipher for RSA can be used with it."""
    _one_version(context, {"version": "1.2"})
    context.set_cipher_list(b"aRSA")


def _refuse_resumption(context: SSL.Context, settings: Settings) -> None:
    """The mistake of servers that ask for certificates and tell OpenSSL no name of their sessions."""
    context.set_session_id(b"")
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)


def _renegotiable(context: SSL.Context, settings: Settings) -> None:
    """TLS 1.3 knows no renegotiation."""
    _one_version(context, {"version": "1.2"})
    context.set_info_callback(_tell_another)


def _tell_another(connection: Any, where: int, result: int) -> None:
    """OpenSSL counts a handshake that was asked for and not begun as pending."""
    done = where & SSL.SSL_CB_HANDSHAKE_DONE and connection.total_renegotiations()
    if done and not connection.renegotiate_pending():
        connection.inner.handshake_done_again()


WAYS: Mapping[str, Callable[[SSL.Context, Settings], None]] = {
    "tls_version": _one_version,
    "tls_ciphers": _ciphers,
    "tls_no_common_cipher": _no_common_cipher,
    "tls_resumption_refused": _refuse_resumption,
    RENEGOTIATES: _renegotiable,
}
