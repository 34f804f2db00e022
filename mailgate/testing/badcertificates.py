"""Certificates that a careful client refuses, each for one reason; and some that it has to bear with.

Each is issued by, or under, an authority that the client trusts, so that nothing else is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mailgate.net.certificates import Identity
from mailgate.testing.certificates import VALID_DAYS, Authority, Issued

Names = Sequence[str]
Maker = Callable[[Authority, Names, Mapping[str, Any]], Identity]

SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")   # object identifiers of PKCS #1 (RFC 8017)
SHA1_WITH_RSA = bytes.fromhex("06092a864886f70d010105")
MD5_WITH_RSA = bytes.fromhex("06092a864886f70d010104")


def identity_of(issued: Issued) -> Identity:
    """Return a certificate with its chain and key as listeners take it."""
    return Identity(tuple(x509.load_pem_x509_certificates(issued.chain_pem)),
                    load_pem_private_key(issued.key_pem, None))


def _expired(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    ends = timedelta(days=-settings["days"])
    return identity_of(authority.issue(*names, begins=ends - timedelta(days=VALID_DAYS), ends=ends))


def _not_yet_valid(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    begins = timedelta(days=settings["days"])
    return identity_of(authority.issue(*names, begins=begins, ends=begins + timedelta(days=VALID_DAYS)))


def _wrong_name(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(settings["name"]))


def _untrusted(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(Authority("Authority that nobody knows").issue(*names))


def _self_signed(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(Authority(names[0]).vouch_for_itself(*names))


def _missing_intermediate(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    whole = identity_of(Authority("Intermediate authority", above=authority).issue(*names))
    return Identity(whole.chain[:1], whole.key)


def _wrong_order(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    upper = Authority("Upper intermediate authority", above=authority)
    whole = identity_of(Authority("Lower intermediate authority", above=upper).issue(*names))
    return Identity((whole.own, authority.certificate, *reversed(whole.chain[1:])), whole.key)


def _short_key(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(*names, key=f"rsa{settings['bits']}"))


def _weakly_signed(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    """Cryptography signs nothing so any more: what it signed well is changed, and signed again."""
    between = Authority("Intermediate authority with RSA", above=authority, key="rsa2048")
    good = identity_of(between.issue(*names))
    kind, digest = {"sha1": (SHA1_WITH_RSA, hashes.SHA1()),
                    "md5": (MD5_WITH_RSA, hashes.MD5())}[settings["digest"]]
    signed = good.own.tbs_certificate_bytes.replace(SHA256_WITH_RSA, kind, 1)
    signature = between.sign(signed, digest)
    own = x509.load_der_x509_certificate(_der(0x30, signed + _der(0x30, kind + b"\x05\0")
                                              + _der(0x03, b"\0" + signature)))
    return Identity((own, *good.chain[1:]), good.key)


def _der(tag: int, content: bytes) -> bytes:
    """Return a value in DER (X.690 section 8.1)."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _only_common_name(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(*names, alternatives=False))


def _for_clients(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(*names, client=True, alternatives=True))


def _nul_in_name(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(f"{names[0]}\0.{settings['name']}"))


def _only_address(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(settings["address"]))


def _issued_by_no_authority(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    """The flaw of Internet Explorer in 2002, and of others since: whoever has a certificate issues more."""
    return identity_of(Authority("holder.example.net", above=authority, posing=True).issue(*names))


def _other(authority: Authority, names: Names, settings: Mapping[str, Any]) -> Identity:
    return identity_of(authority.issue(*names))


BAD: Mapping[str, Maker] = {
    "certificate_expired": _expired,
    "certificate_not_yet_valid": _not_yet_valid,
    "certificate_wrong_name": _wrong_name,
    "certificate_untrusted": _untrusted,
    "certificate_self_signed": _self_signed,
    "certificate_missing_intermediate": _missing_intermediate,
    "certificate_wrong_order": _wrong_order,
    "certificate_short_key": _short_key,
    "certificate_weakly_signed": _weakly_signed,
    "certificate_only_common_name": _only_common_name,
    "certificate_for_clients": _for_clients,
    "certificate_nul_in_name": _nul_in_name,
    "certificate_only_address": _only_address,
    "certificate_issued_by_no_authority": _issued_by_no_authority,
    "certificate_other": _other,
}
