"""What TLS is at a listener: versions and ciphers by profile, certificates by name, clients' certificates.

A `ServerTLS` is what Twisted's `startTLS` takes. What it proves itself with can be replaced while it
serves: connections that stand keep what they began with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IProtocol, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.net.certificates import BadCertificate, Identity
from mailgate.net.tls_transport import TLSTransport

TICKET_SECONDS = 7200       # how long a client may take up an earlier session
SESSION_ID = b"mailgate"    # OpenSSL resumes nothing without one; tickets of one listener fit no other anyway


class Profile(NamedTuple):
    """Which versions and ciphers are spoken. TLS 1.3 has ciphers of its own, all of them good."""

    least: int          # version
    ciphers: bytes = b""


# Keys are always agreed on afresh (ECDHE), so that whoever gets hold of the server's key later reads
# nothing of before: but for `legacy`, whose clients may know nothing else. CBC ciphers stay behind
# the others because the TLS 1.2 of Windows 7 and 8.1 has no others for RSA certificates.
PROFILES: Mapping[str, Profile] = {
    "modern": Profile(SSL.TLS1_3_VERSION),
    "intermediate": Profile(SSL.TLS1_2_VERSION, b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!PSK:!aNULL"),
    # OpenSSL 3 signs nothing with the SHA-1 of TLS 1.0 above security level 0
    "legacy": Profile(SSL.TLS1_VERSION, b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:"
                                        b"kRSA+AESGCM:kRSA+AES:kRSA+3DES:!PSK:!aNULL:@SECLEVEL=0"),
}


class Material(NamedTuple):
    """What a listener proves itself with, and by whom clients have to be vouched for."""

    default: Identity
    names: Mapping[str, Identity] = {}      # by host name, or `*.` and a domain
    authorities: tuple[x509.Certificate, ...] = ()


class Secured(NamedTuple):
    """What a handshake came to."""

    version: str
    cipher: str
    certificate: x509.Certificate | None = None     # the client's, issued by one of our authorities

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


class ServerConnection(SSL.Connection):
    """One connection's TLS. The context is kept because OpenSSL calls back into it."""

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        self.origin = context       # where `set_context` may lead away from
        self.begun = False          # the client has said what it wants
        self.doubted = False        # its certificate did not stand the test


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The TLS of one listener. Serves after `install`.

    `profile` is one of PROFILES. `protocol` is the ALPN name that is agreed to; offers of others are no
    error. `client_certificates`: "no", "request" (one that is not vouched for is as none) or "require".
    """

    options = SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION

    def __init__(self, profile: str = "intermediate", *, protocol: bytes = b"",
                 client_certificates: str = "no") -> None:
        self.profile = profile
        self._protocol = protocol
        self._wanted = client_certificates
        self._context: SSL.Context | None = None

    def use(self, material: Material) -> None:
        """Prepare and install. Raises: BadCertificate, and then nothing has changed."""
        self.install(self.prepare(material))

    def prepare(self, material: Material) -> SSL.Context:
        """Return what `install` takes, with keys of its own for tickets. Raises: BadCertificate."""
        names = {name.lower().encode("ascii"): self._make(one, material.authorities)
                 for name, one in material.names.items()}
        context = self._make(material.default, material.authorities)
        context.set_tlsext_servername_callback(lambda connection: _take_name(connection, names))
        return context

    def install(self, prepared: SSL.Context) -> None:
        """Serve with it from the next handshake on."""
        self._context = prepared

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Return the OpenSSL side of one connection."""
        if self._context is None:
            raise AssertionError("TLS without a certificate")
        return ServerConnection(self._context)

    def _make(self, identity: Identity, authorities: Sequence[x509.Certificate]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        profile = PROFILES[self.profile]
        context.set_min_proto_version(profile.least)
        if profile.ciphers:
            context.set_cipher_list(profile.ciphers)
        context.set_options(self.options)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)      # idle sessions keep none
        # What is resumed rests with the client, in a ticket: nothing here grows.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(SESSION_ID)
        context.set_timeout(TICKET_SECONDS)
        if self._protocol:
            context.set_alpn_select_callback(self._agree)
        if self._wanted != "no":
            self._ask_clients(context, authorities)
        _prove(context, identity)
        return context

    def _agree(self, connection: SSL.Connection, offers: list[bytes]) -> Any:
        return self._protocol if self._protocol in offers else SSL.NO_OVERLAPPING_PROTOCOLS

    def _ask_clients(self, context: SSL.Context, authorities: Sequence[x509.Certificate]) -> None:
        store = context.get_cert_store()
        assert store is not None
        for one in authorities:
            store.add_cert(crypto.X509.from_cryptography(one))
            context.add_client_ca(one)
        if self._wanted == "require":
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        else:
            context.set_verify(SSL.VERIFY_PEER, _doubt)
        # Who resumes is not verified again, and a ticket does not tell what was doubted.
        context.set_options(SSL.OP_NO_TICKET)


def _prove(context: SSL.Context, identity: Identity) -> None:
    """Give a context its certificate, chain and key. Raises: BadCertificate."""
    setting = "certificate"
    try:
        context.use_certificate(identity.own)
        for one in identity.chain[1:]:
            context.add_extra_chain_cert(one)
        setting = "key"
        context.use_privatekey(identity.key)
        context.check_privatekey()
    except SSL.Error as fault:
        raise BadCertificate(setting, f"OpenSSL does not take it: {explained(fault)}") from fault
    except TypeError as fault:      # a kind of key that TLS has no use for
        raise BadCertificate(setting, f"OpenSSL does not take it: {fault}") from fault


def _doubt(connection: Any, certificate: Any, error: int, depth: int, good: int) -> bool:
    """Let every client's certificate pass, and note the one that should not have."""
    if not good:
        connection.doubted = True
    return True


def _take_name(connection: Any, names: Mapping[bytes, SSL.Context]) -> None:
    """Answer with the certificate of the name that the client came for, where there is one.

    OpenSSL asks whether the client named one or not.
    """
    connection.begun = True
    name = (connection.get_servername() or b"").lower().rstrip(b".")
    found = names.get(name) or names.get(b"*." + name.partition(b".")[2])
    if found is not None:
        connection.set_context(found)


def explained(fault: BaseException) -> str:
    """Return OpenSSL's own words for an error of its own; else the error's, or its name."""
    if isinstance(fault, SSL.Error) and fault.args and isinstance(fault.args[0], list):
        return str(fault.args[0][-1][-1]) if fault.args[0] else "no reason is given"
    return str(fault) or type(fault).__name__


def hindrance(transport: Any, reason: Failure) -> str:
    """Return why a handshake came to nothing, for a log; empty for a client that said nothing at all.

    `reason` is what connectionLost is given.
    """
    if reason.check(SSL.Error):
        return explained(reason.value)
    if not getattr(transport.getHandle(), "begun", True):
        return ""
    return "cut before it was done" if reason.check(ConnectionAborted) else "the client hung up"


def secured(transport: Any) -> Secured:
    """Return what the handshake on a transport came to."""
    handle = transport.getHandle()
    certificate = None if getattr(handle, "doubted", False) else handle.get_peer_certificate()
    if certificate is not None:
        certificate = certificate.to_cryptography()
    return Secured(handle.get_protocol_version_name(), handle.get_cipher_name(), certificate)


class TLSFactory(TLSMemoryBIOFactory):
    """TLS from the first octet, in front of another factory (pop3s)."""

    protocol = TLSTransport

    def __init__(self, tls: ServerTLS, wrapped: Any, clock: IReactorTime) -> None:
        super().__init__(tls, False, wrapped, clock)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a connection's protocol; None where the factory behind has none to give."""
        inner: IProtocol | None = self.wrappedFactory.buildProtocol(addr)
        return self.protocol(self, inner) if inner is not None else None
