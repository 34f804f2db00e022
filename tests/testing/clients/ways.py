"""How clients are told to come in, by scenario: in clear, with USER and PASS, unless said otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from tests.testing.clients.programs import Way

PLAIN = Way()
STLS = Way("stls")
POP3S = Way("pop3s")
APOP = Way("none", "apop")
SASL = Way("none", "plain")
XOAUTH2 = Way("none", "xoauth2")

WAYS: Mapping[str, Way] = {
    "apop-offered-but-dead": APOP,
    "apop-timestamp-not-a-message-id": APOP,
    "bad-token-looks-like-bad-password": XOAUTH2,
    "capa-differs-after-stls": STLS,
    "certificate-expired": POP3S,
    "certificate-for-another-name": POP3S,
    "certificate-for-another-name-after-stls": STLS,
    "certificate-self-signed": POP3S,
    "challenge-not-base64": SASL,
    "endless-challenges": SASL,
    "initial-response-refused": SASL,
    "oauth-error-as-challenge": XOAUTH2,
    "ok-in-place-of-plus": SASL,
    "plain-answered-as-login": SASL,
    "quit-reply-lost": POP3S,
    "stls-ok-but-no-tls": STLS,
    "stls-ok-then-silence": STLS,
    "stls-refused": STLS,
    "stls-response-injected": STLS,
    "stls-stripped": STLS,
    "tls-too-old": POP3S,
}
# TLS that no client should take for good: who logs in inside it has trusted the wrong thing
BAD_TLS = frozenset(name for name in WAYS if name.startswith("certificate-")) | {"tls-too-old"}
BAD_TIMESTAMP = frozenset({"apop-timestamp-not-a-message-id"})      # no client should answer it
# what a client stores in these is not what lies on the server, and it cannot know
ALTERED_BY_SERVER = frozenset({"bare-lf-dot-unstuffed", "dots-stuffed-twice", "top-and-retr-differ"})
# servers that never get well: to mend them would change every unique-id, which is another trouble
NEVER_WELL = frozenset({
    "uidl-changes-every-session", "uidl-in-another-order", "uidl-line-without-id",
    "uidl-reused-after-deletion", "uidl-same-for-two-messages", "uidl-shorter-than-list"})


def way_of(scenario: str) -> Way:
    """Return how a client has to come in for a scenario to mean something to it."""
    return WAYS.get(scenario, PLAIN)
