"""Every mechanism, the strongest first: clients that read from the left find it so."""

from __future__ import annotations

from collections.abc import Mapping

from mailgate.auth.sasl import Exchange, Facts, Mechanism
from mailgate.auth.sasl.certificates import External
from mailgate.auth.sasl.digests import CramMd5
from mailgate.auth.sasl.gssapi import Gssapi
from mailgate.auth.sasl.passwords import Login, Plain
from mailgate.auth.sasl.scram import Scram
from mailgate.auth.sasl.tokens import OAuthBearer, XOAuth2


def _scram(scheme: str, *, plus: bool) -> Mechanism:
    def begin(facts: Facts) -> Exchange:
        return Scram(scheme, facts, plus=plus)

    return Mechanism(begin, plaintext=False, needs=scheme, binds=plus)


MECHANISMS: Mapping[bytes, Mechanism] = {
    b"SCRAM-SHA-256-PLUS": _scram("SCRAM-SHA-256", plus=True),
    b"SCRAM-SHA-1-PLUS": _scram("SCRAM-SHA-1", plus=True),
    b"SCRAM-SHA-256": _scram("SCRAM-SHA-256", plus=False),
    b"SCRAM-SHA-1": _scram("SCRAM-SHA-1", plus=False),
    b"GSSAPI": Mechanism(Gssapi, plaintext=False, needs="ticket", unasked=False),
    b"EXTERNAL": Mechanism(External, plaintext=False, needs="certificate"),
    b"OAUTHBEARER": Mechanism(OAuthBearer, plaintext=True, needs="token"),
    b"XOAUTH2": Mechanism(lambda facts: XOAuth2(), plaintext=True, needs="token"),
    b"CRAM-MD5": Mechanism(CramMd5, plaintext=False, server_first=True, needs="CRAM-MD5", unasked=False),
    b"PLAIN": Mechanism(lambda facts: Plain(), plaintext=True),
    b"LOGIN": Mechanism(lambda facts: Login(), plaintext=True, unasked=False),
}
