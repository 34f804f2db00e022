"""The configuration as typed, frozen sections. What each setting means is told in `etc/mailgate.toml`.

Every field names its reader, and whether it must be there; `mailgate.config.reading` does the rest.
"""

# ruff: noqa: RUF009  (every default below is made by attrs.field)

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from mailgate.config import values
from mailgate.config.buckets import parse_bucket
from mailgate.config.databases import SCHEMES, parse_database
from mailgate.config.endpoints import absolute_endpoint, endpoint
from mailgate.config.values import Location
from mailgate.directories import Pattern, Server
from mailgate.formats.uniqueids import Format
from mailgate.principals import Rule, parse_principal


def _setting(reader: Callable[[Any], Any], default: Any = None, *, required: bool = False) -> Any:
    return attrs.field(default=default, metadata={"reader": reader, "required": required})


def _table(kind: type[Any]) -> Any:
    return attrs.field(factory=kind, metadata={"table": kind})


def _tables(kind: type[Any]) -> Any:
    return attrs.field(factory=tuple, metadata={"tables": kind})


def _optional_table(kind: type[Any]) -> Any:
    return attrs.field(default=None, metadata={"table": kind})


def _tables_by_name(kind: type[Any], reader_of_names: Callable[[Any], str]) -> Any:
    return attrs.field(factory=dict, metadata={"named": kind, "reader_of_names": reader_of_names})


@attrs.frozen
class StoreSection:
    """[store]"""

    metadata: Location = _setting(values.location("sqlite", urls=dict.fromkeys(SCHEMES, parse_database)),
                                  Location("sqlite", "mail.db"))
    bodies: Location = _setting(values.location("file", urls={"s3": parse_bucket}),
                                Location("file", "bodies"))
    s3_credentials: str | None = _setting(values.path)      # of bodies = "s3:..."
    s3_ca_file: str | None = _setting(values.path)
    maildrops: Location | None = _setting(values.spools("maildir", "mbox"))
    envelope_recipient: tuple[str, ...] = _setting(values.array_of(values.field_name),
                                                   ("X-Original-To", "Delivered-To"))     # of maildrops
    unique_ids: Format = _setting(values.unique_ids, Format())      # of maildrops
    lease_seconds: int = _setting(values.whole(1, 86_400), 60)
    inline_octets: int = _setting(values.whole(0, 64 << 20), 64 << 10)
    quota_octets: int | None = _setting(values.whole(1, 1 << 62))
    retention_days: int | None = _setting(values.whole(1, 36_500))
    housekeeping_seconds: float = _setting(values.seconds(1, 86_400), 3600.0)
    sweep_grace_seconds: int = _setting(values.whole(3600, 366 * 86_400), 86_400)
    # of [store]: names of [stores.NAME], or "store" for itself
    merge: tuple[str, ...] | None = _setting(values.words)
    deliver_to: str | None = _setting(values.word)      # left out: the first of `merge`
    # of [stores.NAME], in a merge
    optional: bool = _setting(values.switch, False)


@attrs.frozen
class CertificateSection:
    """One [tls.sni."NAME"]"""

    certificate: str = _setting(values.path, "", required=True)
    key: str = _setting(values.path, "", required=True)


@attrs.frozen
class TlsSection:
    """[tls]. `sni` has its names in lower case."""

    certificate: str = _setting(values.path, "", required=True)
    key: str = _setting(values.path, "", required=True)
    watch_seconds: float = _setting(values.seconds(1, 86_400), 60.0)
    sni: Mapping[str, CertificateSection] = _tables_by_name(CertificateSection, values.certificate_name)


@attrs.frozen
class KerberosSection:
    """[kerberos]"""

    keytab: str = _setting(values.path, "", required=True)
    service: str = _setting(values.service_principal, "", required=True)
    realms: tuple[str, ...] | None = _setting(values.array_of(values.realm))     # left out: the service's
    rules: tuple[Rule, ...] | None = _setting(values.array_of(values.principal_rule))
    versions: tuple[str, ...] | None = _setting(values.array_of(values.application_version))

    @property
    def trusted_realms(self) -> tuple[str, ...]:
        """The realms whose principals may log in."""
        if self.realms is not None or not self.service:
            return self.realms or ()
        return (parse_principal(self.service).realm,)


@attrs.frozen
class ListenSection:
    """One [[listen]]"""

    protocol: str = _setting(values.protocol, "", required=True)
    endpoint: str = _setting(endpoint, "", required=True)
    plaintext_login: bool | None = _setting(values.switch)
    checkers: tuple[str, ...] | None = _setting(values.words)
    greeting: str | None = _setting(values.greeting)
    mechanisms: tuple[str, ...] | None = _setting(values.words_of(*values.MECHANISMS))
    implicit_tls: bool | None = _setting(values.switch)
    tls_profile: str | None = _setting(values.one_of("modern", "intermediate", "legacy"))
    client_certificates: str | None = _setting(values.one_of("no", "request", "require"))
    client_ca: str | None = _setting(values.path)
    certificate_name: str | None = _setting(values.one_of("common-name", "email"))
    # addresses and networks of ipaddress, and the word "unix"
    proxy_from: tuple[Any, ...] | None = _setting(values.array_of(values.trusted))
    proxy_tls: bool | None = _setting(values.switch)

    @property
    def takes_tickets(self) -> bool:
        """Whether Kerberos tickets are wanted behind the greeting."""
        return "GSSAPI" in (self.mechanisms or ())


@attrs.frozen
class CheckerSection:
    """One [[checker]]"""

    kind: str = _setting(values.one_of("store", "passwd-file", "oauth", "pam", "ldap"), "",
                         required=True)
    name: str = _setting(values.word, "")       # left out: the kind
    path: str | None = _setting(values.path)
    # of oauth
    keys: str | None = _setting(values.path_or_web_address)
    algorithms: tuple[str, ...] | None = _setting(values.words_of(*values.TOKEN_ALGORITHMS))
    introspection: str | None = _setting(values.web_address)
    client_id: str | None = _setting(values.text)
    client_secret_file: str | None = _setting(values.path)
    issuer: str | None = _setting(values.text)
    audience: str | None = _setting(values.text)
    scope: str | None = _setting(values.text)
    claim: str | None = _setting(values.text)
    # of pam
    service: str | None = _setting(values.pam_service)
    minimum_uid: int | None = _setting(values.whole(0, 4_294_967_293))
    groups: tuple[str, ...] | None = _setting(values.array_of(values.text))
    processes: int | None = _setting(values.whole(1, 64))
    timeout_seconds: float | None = _setting(values.seconds(1, 300))    # of ldap too
    # of ldap
    urls: tuple[Server, ...] | None = _setting(values.array_of(values.directory_server))
    starttls: bool | None = _setting(values.switch)
    ca_file: str | None = _setting(values.path)
    user_dn: Pattern | None = _setting(values.directory_name_pattern)
    search_base: str | None = _setting(values.directory_name)
    search_scope: str | None = _setting(values.one_of("base", "one-level", "subtree"))
    search_filter: Pattern | None = _setting(values.directory_filter)
    maildrop_attribute: str | None = _setting(values.directory_attribute)
    mail_filter: Pattern | None = _setting(values.directory_filter)
    bind_dn: str | None = _setting(values.directory_name)
    bind_password_file: str | None = _setting(values.path)
    domains: tuple[str, ...] | None = _setting(values.array_of(values.host_name))
    connections: int | None = _setting(values.whole(1, 64))
    connect_seconds: float | None = _setting(values.seconds(0.1, 60))
    answer_seconds: float | None = _setting(values.seconds(0.1, 60))

    OF_LDAP: ClassVar[tuple[str, ...]] = (
        "urls", "starttls", "ca_file", "user_dn", "search_base", "search_scope", "search_filter",
        "maildrop_attribute", "mail_filter", "bind_dn", "bind_password_file", "domains", "connections",
        "connect_seconds", "answer_seconds", "timeout_seconds")
    OF_PAM: ClassVar[tuple[str, ...]] = (
        "service", "minimum_uid", "groups", "processes", "timeout_seconds")
    OF_OAUTH: ClassVar[tuple[str, ...]] = (
        "keys", "algorithms", "introspection", "client_id", "client_secret_file", "issuer", "audience",
        "scope",
        "claim")


@attrs.frozen
class LimitsSection:
    """[limits]: what one client may cost, and how passwords are worked on."""

    line_octets: int = _setting(values.whole(255, 65_536), 255)
    auth_line_octets: int = _setting(values.whole(1024, 4 << 20), 128 << 10)
    backlog_octets: int = _setting(values.whole(1024, 64 << 20), 64 << 10)
    bad_commands: int = _setting(values.whole(1, 1_000_000), 20)
    failed_logins: int = _setting(values.whole(1, 1_000_000), 3)
    idle_seconds: float = _setting(values.seconds(1, 86_400), 600.0)
    login_seconds: float = _setting(values.seconds(1, 86_400), 180.0)
    progress_seconds: float = _setting(values.seconds(1, 86_400), 120.0)
    failure_delay_seconds: float = _setting(values.seconds(0, 60), 2.0)
    failure_growth: float = _setting(values.factor(1, 10), 2.0)
    failure_delay_most_seconds: float = _setting(values.seconds(0, 600), 30.0)
    failure_half_life_seconds: float = _setting(values.seconds(1, 86_400), 600.0)
    size_octets: int = _setting(values.whole(0, 1 << 40), 50 << 20)
    recipients: int = _setting(values.whole(100, 1_000_000), 1000)
    received_fields: int = _setting(values.whole(10, 1_000_000), 100)
    lmtp_idle_seconds: float = _setting(values.seconds(1, 86_400), 300.0)
    hash_threads: int = _setting(values.whole(1, 64), 1)
    remember_seconds: int = _setting(values.whole(0, 86_400), 300)
    connections: int | None = _setting(values.whole(1, 10_000_000))
    connections_per_network: int | None = _setting(values.whole(1, 10_000_000))
    connections_per_address: int = _setting(values.whole(1, 10_000_000), 100)
    connections_per_user: int = _setting(values.whole(1, 10_000_000), 10)


@attrs.frozen
class Pop3Section:
    """[pop3]: what every POP3 listener offers."""

    expire: int | str | bool | None = _setting(values.announced_expiry)
    login_delay_seconds: int = _setting(values.whole(0, 7 * 86_400), 0)
    last: bool = _setting(values.switch, False)
    apop: bool = _setting(values.switch, False)
    sdps: bool = _setting(values.switch, True)


@attrs.frozen
class AccountsSection:
    """[accounts]: what the command keeps of new passwords."""

    keep: tuple[str, ...] | None = _setting(values.words_of("scram", "cram", "apop"))


@attrs.frozen
class ConsoleSection:
    """[console]: a page that shows what happens, for the operator's browser."""

    endpoint: str = _setting(endpoint, "tcp:8110:interface=127.0.0.1")
    token_file: str | None = _setting(values.path)      # left out: beside the database
    names: tuple[str, ...] = _setting(values.array_of(values.host_name), ())


@attrs.frozen
class Config:
    """A whole configuration. `folder` is what relative paths start from (the file's own)."""

    hostname: str = _setting(values.host_name, "", required=True)
    postmaster: str | None = _setting(values.recipient)
    workers: int = _setting(values.whole(1, 64), 1)
    store: StoreSection = _table(StoreSection)
    stores: Mapping[str, StoreSection] = _tables_by_name(StoreSection, values.word)
    tls: TlsSection | None = _optional_table(TlsSection)
    kerberos: KerberosSection | None = _optional_table(KerberosSection)
    listen: tuple[ListenSection, ...] = _tables(ListenSection)
    checker: tuple[CheckerSection, ...] = _tables(CheckerSection)
    limits: LimitsSection = _table(LimitsSection)
    pop3: Pop3Section = _table(Pop3Section)
    accounts: AccountsSection = _table(AccountsSection)
    console: ConsoleSection | None = _optional_table(ConsoleSection)
    folder: Path = attrs.field(factory=Path, metadata={"internal": True})

    @property
    def checkers(self) -> tuple[CheckerSection, ...]:
        """The checkers in the order they are asked; the store's accounts when none is configured."""
        sections = self.checker or (CheckerSection(kind="store"),)
        return tuple(attrs.evolve(one, name=one.name or one.kind) for one in sections)

    @property
    def metadata_path(self) -> Path | None:
        """The database file; None where the database is a server's."""
        return self.folder / self.store.metadata.path if self.store.metadata.scheme == "sqlite" else None

    @property
    def bodies_path(self) -> Path | None:
        """The folder of large bodies; None where they are not in files."""
        return self.folder / self.store.bodies.path if self.store.bodies.scheme == "file" else None

    @property
    def console_endpoint(self) -> str:
        """The console's endpoint description, the path of a unix socket made absolute."""
        return absolute_endpoint(self.console.endpoint if self.console is not None else "", self.folder)

    @property
    def console_token_path(self) -> Path | None:
        """The file with the console's token; None where nothing says where it is to be."""
        if self.console is not None and self.console.token_file is not None:
            return self.folder / self.console.token_file
        return None if self.metadata_path is None else self.metadata_path.parent / "console.token"

    @property
    def keytab_path(self) -> Path:
        """The keytab of [kerberos]."""
        return self.folder / (self.kerberos.keytab if self.kerberos is not None else "")

    def passwd_path(self, checker: CheckerSection) -> Path:
        """Return the file of a passwd-file checker."""
        return self.folder / (checker.path or "")

    def endpoint_of(self, listener: ListenSection) -> str:
        """Return a listener's endpoint description, the path of a unix socket made absolute."""
        return absolute_endpoint(listener.endpoint, self.folder)

    def checkers_of(self, listener: ListenSection) -> tuple[CheckerSection, ...]:
        """Return the checkers of one listener, in the order they are asked."""
        if listener.checkers is None:
            return self.checkers
        by_name = {one.name: one for one in self.checkers}
        return tuple(by_name[name] for name in listener.checkers)

    @property
    def expire_words(self) -> bytes | None:
        """The argument of CAPA EXPIRE (RFC 2449 section 6.7): what is enforced, or None for silence."""
        if self.pop3.expire is False:
            return None
        days = self.store.retention_days
        return b"NEVER" if days is None else b"%d" % days
