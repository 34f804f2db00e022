"""What no single setting shows: settings that contradict one another."""

from __future__ import annotations

from collections.abc import Iterator

from mailgate.config.directory import ldap_contradictions
from mailgate.config.endpoints import collide, split_endpoint
from mailgate.config.problems import KeyPath, Problem
from mailgate.config.sections import CheckerSection, Config
from mailgate.config.stores import store_contradictions

SHARED_KINDS = ("tcp", "tcp6", "unix", "systemd")     # endpoints that `workers` can share
SOCKET_PATH_OCTETS = 107    # sun_path of Linux, its NUL not counted


def contradictions(config: Config) -> Iterator[Problem]:
    """Give every contradiction. Settings that could not be read have their default here."""
    yield from store_contradictions(config)
    yield from _listeners(config)
    yield from _workers(config)
    yield from _tls(config)
    yield from _proxies(config)
    yield from _kerberos(config)
    yield from _checkers(config)
    yield from _expiry(config)
    yield from _console(config)


def _listeners(config: Config) -> Iterator[Problem]:
    if not config.listen:
        yield Problem(("listen",), "no [[listen]]: nothing would be served")
    names = {one.name for one in config.checkers}
    for index, one in enumerate(config.listen):
        where = ("listen", index)
        yield from (Problem((*where, "endpoint"), words) for words in _endpoint_faults(config, index))
        for setting in ("plaintext_login", "greeting"):
            if one.protocol == "lmtp" and getattr(one, setting) is not None:
                yield Problem((*where, setting), "has no meaning for lmtp")
        if one.certificate_name is not None and one.client_certificates not in ("request", "require"):
            yield Problem((*where, "certificate_name"),
                          'has no meaning unless client_certificates is "request" or "require"')
        if one.mechanisms is not None and one.protocol not in ("pop3", "pop3s"):
            yield Problem((*where, "mechanisms"), f"has no meaning for {one.protocol}")
        for name in one.checkers or ():
            if name not in names:
                known = ", ".join(sorted(names))
                yield Problem((*where, "checkers"), f"no [[checker]] has the name {name}; there are: {known}")


def _workers(config: Config) -> Iterator[Problem]:
    """What listens is handed to several processes only as a bare socket."""
    for index, one in enumerate(config.listen if config.workers > 1 else ()):
        kind = split_endpoint(one.endpoint).kind
        if kind and kind not in SHARED_KINDS:
            yield Problem(("listen", index, "endpoint"),
                          f"{kind}: does not go with `workers`: {', '.join(SHARED_KINDS)} do")


def _tls(config: Config) -> Iterator[Problem]:
    for index, one in enumerate(config.listen):
        where = ("listen", index)
        if config.tls is None:
            if one.protocol == "pop3s":
                yield Problem((*where, "protocol"), "pop3s needs a certificate: [tls]")
            for setting in ("tls_profile", "client_certificates", "client_ca"):
                if getattr(one, setting) is not None:
                    yield Problem((*where, setting), "has no meaning without [tls]")
            continue
        if one.protocol == "pop3s" and split_endpoint(one.endpoint).kind == "ssl":
            yield Problem((*where, "endpoint"), "pop3s brings its own TLS: tcp: is what it needs")
        asked = one.client_certificates in ("request", "require")
        if asked and one.client_ca is None:
            yield Problem((*where, "client_ca"), "is missing")
        if not asked and one.client_ca is not None:
            words = 'has no meaning unless client_certificates is "request" or "require"'
            yield Problem((*where, "client_ca"), words)


def _proxies(config: Config) -> Iterator[Problem]:
    for index, one in enumerate(config.listen):
        where, kind = ("listen", index), split_endpoint(one.endpoint).kind
        if kind == "haproxy":       # it greets before it has read the header, which it takes from anybody
            yield Problem((*where, "endpoint"), "haproxy: cannot serve here: see proxy_from")
        if one.proxy_from is None:
            if one.proxy_tls is not None:
                yield Problem((*where, "proxy_tls"), "has no meaning without `proxy_from`")
            continue
        if not one.proxy_from:
            yield Problem((*where, "proxy_from"), "the array is empty")
        if kind in ("ssl", "tls"):  # the header comes in clear, in front of TLS
            yield Problem((*where, "proxy_from"), f"does not go with {kind}: but with pop3s and tcp:")
        if one.proxy_tls and (one.protocol == "pop3s" or one.implicit_tls):
            yield Problem((*where, "proxy_tls"), "has no meaning where TLS is spoken here at once")


def _kerberos(config: Config) -> Iterator[Problem]:
    for index, one in enumerate(config.listen):
        where = ("listen", index)
        if one.implicit_tls is not None and one.protocol != "kpop":
            yield Problem((*where, "implicit_tls"), "has a meaning for kpop only")
        if one.takes_tickets and config.kerberos is None:
            yield Problem((*where, "mechanisms"), "GSSAPI needs a key: [kerberos]")
        if one.protocol != "kpop":
            continue
        if config.kerberos is None:
            yield Problem((*where, "protocol"), "kpop needs a key: [kerberos]")
        if one.plaintext_login is not None:
            yield Problem((*where, "plaintext_login"), "has no meaning for kpop: its password is ignored")
        if one.implicit_tls and config.tls is None:
            yield Problem((*where, "implicit_tls"), "needs a certificate: [tls]")
    if config.kerberos is not None:
        realms = config.kerberos.trusted_realms
        for index, rule in enumerate(config.kerberos.rules or ()):
            if rule.realm not in realms:
                yield Problem(("kerberos", "rules", index),
                              f"{rule.realm} is none of the realms: {', '.join(realms) or 'there are none'}")


def _endpoint_faults(config: Config, index: int) -> Iterator[str]:
    if not config.listen[index].endpoint:
        return
    description = config.endpoint_of(config.listen[index])
    for earlier, other in enumerate(config.listen[:index]):
        if other.endpoint and collide(config.endpoint_of(other), description):
            yield f"already taken by listen[{earlier}]"
            return
    parts = split_endpoint(description)
    if parts.kind == "unix" and len(parts.argument(0, "address").encode()) > SOCKET_PATH_OCTETS:
        yield f"the path of a unix socket has at most {SOCKET_PATH_OCTETS} octets"


def _checkers(config: Config) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, one in enumerate(config.checker):
        where = ("checker", index)
        name = one.name or one.kind
        if name and first.setdefault(name, index) != index:
            yield Problem((*where, "name"), f"{name} is already the name of checker[{first[name]}]")
        if one.kind == "passwd-file" and one.path is None:
            yield Problem((*where, "path"), "is missing")
        if one.kind == "store" and one.path is not None:
            yield Problem((*where, "path"), "has no meaning for the store's accounts")
        yield from oauth_contradictions(one, where)
        yield from _pam(one, where)
        yield from ldap_contradictions(one, where)


def oauth_contradictions(one: CheckerSection, where: KeyPath) -> Iterator[Problem]:
    """Give those of a section that may be one of kind oauth."""
    given = [name for name in CheckerSection.OF_OAUTH if getattr(one, name) is not None]
    if one.kind != "oauth":
        yield from (Problem((*where, name), f"has no meaning for {one.kind}") for name in given if one.kind)
        return
    if one.path is not None:
        yield Problem((*where, "path"), "has no meaning for oauth: `keys` names the file or the URL")
    if (one.keys is None) == (one.introspection is None):
        yield Problem(where, "oauth needs either `keys` or `introspection`")
    if one.keys is not None:        # a signature alone says for whom a token is to nobody
        yield from (Problem((*where, name), "is missing") for name in ("issuer", "audience")
                    if getattr(one, name) is None)
    if one.keys is None and one.algorithms is not None:
        yield Problem((*where, "algorithms"), "has no meaning without `keys`")
    if one.algorithms == ():
        yield Problem((*where, "algorithms"), "the array is empty")
    if (one.client_id is None) != (one.client_secret_file is None):
        yield Problem((*where, "client_id"), "goes with `client_secret_file`")


def _pam(one: CheckerSection, where: KeyPath) -> Iterator[Problem]:
    if one.kind != "pam":
        given = [name for name in CheckerSection.OF_PAM if getattr(one, name) is not None
                 and not (one.kind == "ldap" and name in CheckerSection.OF_LDAP)]
        yield from (Problem((*where, name), f"has no meaning for {one.kind}") for name in given if one.kind)
        return
    if one.path is not None:
        yield Problem((*where, "path"), "has no meaning for pam: `service` names the file in /etc/pam.d")
    if one.groups == ():
        yield Problem((*where, "groups"), "the array is empty: nobody could log in")


def _expiry(config: Config) -> Iterator[Problem]:
    """Only what is enforced may be announced (RFC 2449 section 6.7)."""
    announced, days = config.pop3.expire, config.store.retention_days
    if announced in (None, False):
        return
    where = ("pop3", "expire")
    if announced == "NEVER" and days is not None:
        yield Problem(where, f"mail expires after {days} days: see store.retention_days")
    elif announced != "NEVER" and days is None:
        yield Problem(where, f"{announced} days are announced, but store.retention_days is not set")
    elif announced not in ("NEVER", days):
        yield Problem(where, f"{announced} days are announced, but store.retention_days is {days}")


def _console(config: Config) -> Iterator[Problem]:
    if config.console is None:
        return
    if config.workers > 1:
        yield Problem(("console",),
                      "does not go with `workers`: each would show its own sessions, and a browser meet any")
    if config.console_token_path is None:
        yield Problem(("console", "token_file"), "is missing: there is no folder of a database to keep it in")
    for index, one in enumerate(config.listen):
        if collide(one.endpoint, config.console.endpoint):
            yield Problem(("console", "endpoint"), f"listen[{index}] has the same address")
