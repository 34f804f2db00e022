"""TLS done wrong: certificates, versions, handshakes, and the way out of it.

What a certificate fault needs is made by the harness (harness/tls.py), which knows OpenSSL; here it only has
its name. All others speak octets. What closes, tears, stalls or delays a reply (delivery.py) does the same to
the server's first flight of a handshake when its command is `tls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.delivery import cut_at
from mailgate.testing.trouble.model import REQUIRED, TLS, End, Instead, Kind, Occasion, Step

Settings = Mapping[str, tuple[Callable[[Any], Any], Any]]

ALERT = 21                  # content type of a record (RFC 8446 section 5.1)
WARNING, FATAL = 1, 2       # levels of alerts (section 6)
HANDSHAKE_FAILURE = 40
VERSIONS = ("1.0", "1.1", "1.2", "1.3")


def _certificate(name: str, told: str, settings: Settings | None = None) -> Kind:
    return Kind(f"certificate_{name}", told, settings or {}, (TLS,), tls=f"certificate_{name}")


def _alert(occasion: Occasion, flight: bytes) -> bytes:
    goes_on = occasion.setting("warning")
    record = bytes([ALERT, 3, 3, 0, 2, WARNING if goes_on else FATAL, occasion.setting("alert")])
    return record + flight if goes_on else record


def _after_alert(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return steps if occasion.setting("warning") else [*steps, End(silent=True)]


def _garbage(occasion: Occasion, flight: bytes) -> bytes:
    given: bytes = occasion.setting("octets")
    return given or occasion.random.randbytes(occasion.setting("size"))


def _plaintext(occasion: Occasion) -> Instead:
    return Instead(b"+OK " + occasion.setting("text").encode() + b"\r\n")


def _truncate(occasion: Occasion, steps: list[Step]) -> list[Step]:
    return [*cut_at(steps, occasion.setting("at")), End(silent=True)]


def _renegotiate(occasion: Occasion) -> None:
    occasion.around.renegotiate()


def _stls(occasion: Occasion) -> Instead | None:
    if occasion.verb != "STLS":
        return None
    how = occasion.setting("how")
    if how in ("refused", "stripped"):
        return Instead(b"-ERR " + occasion.setting("text").encode() + b"\r\n")
    return Instead(b"+OK begin TLS\r\n") if how == "plaintext" else None


def _after_stls(occasion: Occasion, reply: bytes) -> bytes:
    how = occasion.setting("how")
    if occasion.verb == "CAPA" and how in ("hidden", "stripped"):
        return b"".join([line for line in reply.splitlines(keepends=True) if line.upper() != b"STLS\r\n"])
    if occasion.verb == "STLS" and how == "injected" and reply.startswith(b"+OK"):
        return reply + occasion.setting("octets")
    return reply


_DAYS: Settings = {"days": (values.whole(1), 30)}

CERTIFICATES = (
    _certificate("expired", "Shows a certificate that expired so many days ago.", _DAYS),
    _certificate("not_yet_valid", "Shows a certificate that will be valid in so many days.", _DAYS),
    _certificate("wrong_name", "Shows a certificate for another host.",
                 {"name": (values.text, "other.example.net")}),
    _certificate("untrusted", "Shows a certificate of an authority that nobody trusts."),
    _certificate("self_signed", "Shows a certificate that only it itself vouches for."),
    _certificate("missing_intermediate", "Leaves out the certificate between its own and the authority's."),
    _certificate("wrong_order", "Sends a good chain of certificates in disorder, the authority's own"
                                " among them; TLS 1.3 bids clients bear with it (RFC 8446 section 4.4.2)."),
    _certificate("short_key", "Shows a certificate for an RSA key of so many bits.",
                 {"bits": (values.whole(1024, 2047), 1024)}),
    _certificate("weakly_signed", "Shows a certificate that is signed over SHA-1 or MD5.",
                 {"digest": (values.choice("sha1", "md5"), "sha1")}),
    _certificate("only_common_name", "Shows a certificate that names the host in its subject alone."),
    _certificate("for_clients", "Shows a certificate that is good for clients and not for servers."),
    _certificate("nul_in_name", "Shows a certificate for the host, a NUL and a domain of somebody else's.",
                 {"name": (values.text, "other.example.net")}),
    _certificate("only_address", "Shows a certificate for an address, and for no name.",
                 {"address": (values.text, "127.0.0.1")}),
    _certificate("issued_by_no_authority", "Shows a certificate that another server's good certificate"
                                           " has issued, which is no authority's."),
    _certificate("other", "Shows a good certificate with another key, as on the day of a renewal."),
)

KINDS = (
    *CERTIFICATES,
    Kind("tls_version", "Speaks this version of TLS and no other.",
         {"version": (values.choice(*VERSIONS), "1.0")}, (TLS,), tls="tls_version"),
    Kind("tls_ciphers", "Speaks TLS 1.2 with these ciphers alone, in OpenSSL's words; those of the default"
                        " do not encrypt.",
         {"ciphers": (values.text, "eNULL")}, (TLS,), tls="tls_ciphers"),
    Kind("tls_no_common_cipher", "Speaks TLS 1.2 with ciphers that its own certificate does not fit.", {},
         (TLS,), tls="tls_no_common_cipher"),
    Kind("tls_resumption_refused", "Gives out session tickets, and ends the handshake with an alert when one"
                                   " comes back.", {}, (TLS,), tls="tls_resumption_refused"),
    Kind("tls_alert", "Answers the handshake with an alert, by its number, and closes; or with a warning"
                      " before it goes on.",
         {"alert": (values.whole(0, 255), HANDSHAKE_FAILURE), "warning": (values.switch, False)}, (TLS,),
         rework=_alert, deliver=_after_alert),
    Kind("tls_garbage", "Answers the handshake with octets that are no TLS: the given ones, or so many by"
                        " chance.",
         {"octets": (values.octets, b""), "size": (values.whole(1), 64)}, (TLS,), rework=_garbage),
    Kind("tls_plaintext", "Greets in clear where TLS should begin, and hears nothing.",
         {"text": (values.text, "POP3 server ready")}, (TLS,), instead=_plaintext),
    Kind("tls_renegotiate", "Asks for another handshake inside TLS before it answers; speaks TLS 1.2 alone.",
         before=_renegotiate),
    Kind("stls", "STLS is `refused`; `hidden` in CAPA, though it works; `stripped`: hidden and refused, as by"
                 " somebody in the middle; `injected`: these octets follow +OK in clear, in one segment; or"
                 " `plaintext`: +OK, and the session goes on in clear.",
         {"how": (values.choice("refused", "hidden", "stripped", "injected", "plaintext"), REQUIRED),
          "text": (values.text, "command not known"), "octets": (values.octets, b"+OK injected\r\n")},
         ("CAPA", "STLS"), instead=_stls, rework=_after_stls),
    Kind("tls_truncate", "Closes the connection once so many octets of the reply are out, without the"
                         " farewell by which TLS tells an end from a cut.",
         {"at": (values.whole(0), 0)}, deliver=_truncate),
)
