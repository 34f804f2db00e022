"""From [[listen]] sections to factories: what each protocol is told of the configuration."""

from __future__ import annotations

import resource
import time
from typing import Any

from mailgate.assembly.auth import Doors
from mailgate.auth.gssapi import TicketAcceptor, TicketService
from mailgate.auth.kerberos import Acceptor, ServiceKey
from mailgate.auth.libkrb5 import require_cffi
from mailgate.config import Config, ListenSection
from mailgate.errors import ConfigurationError
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.net.attempts import Attempts
from mailgate.net.crowd import Crowd
from mailgate.net.failures import Failures, Growth
from mailgate.net.kpop import KPOPFactory
from mailgate.net.lmtp import LMTPFactory
from mailgate.net.pop3 import POP3Factory
from mailgate.net.proxy import ProxyFactory, Trusted
from mailgate.net.tls import ServerTLS, TLSFactory
from mailgate.pop3.policy import Limits, Policy

KEPT_FILES = 256    # descriptors that clients do not get: LMTP, bodies, the database, the log


def make_factory(config: Config, listener: ListenSection, store: Any, doors: Doors, clock: Any,
                 tls: ServerTLS | None = None, crowd: Crowd | None = None,
                 attempts: Attempts | None = None) -> Any:
    """Return the factory of a listener; it has a `shutdown` that tells its sessions and ends them.

    With `tls` it offers STLS or STARTTLS.
    """
    if listener.protocol == "lmtp":
        return LMTPFactory(store, doors.router(listener), hostname=config.hostname,
                           policy=lmtp_policy(config), clock=clock, tls=tls)
    if listener.protocol == "kpop":
        return kpop_factory(config, listener, doors, clock, tls, crowd, attempts)
    policy = pop3_policy(config, listener)
    tickets = TicketAcceptor(ticket_service(config), clock, seconds=policy.limits.login_seconds) if (
        listener.takes_tickets) else None
    return POP3Factory(doors.portal(listener), policy=policy, clock=clock, tls=tls, crowd=crowd,
                       attempts=attempts, tickets=tickets)


def ticket_service(config: Config) -> TicketService:
    """Return what takes the tickets of AUTH GSSAPI; libgssapi is loaded when it is first needed."""
    assert config.kerberos is not None, "the configuration was checked"
    return TicketService(ServiceKey(str(config.keytab_path), config.kerberos.service))


def make_crowd(config: Config) -> Crowd:
    """Return the bound on clients: as configured, else what the limit of open files leaves."""
    limits = config.limits
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = limits.connections
    if most is None and files != resource.RLIM_INFINITY:
        most = files - min(KEPT_FILES, files // 4)
    return Crowd(most, limits.connections_per_network, per_address=limits.connections_per_address,
                 per_user=limits.connections_per_user)


def make_attempts(config: Config, crowd: Crowd, clock: Any) -> Attempts:
    """Return what holds refused logins back, on all listeners together."""
    limits = config.limits
    growth = Growth(limits.failure_delay_seconds, limits.failure_growth, limits.failure_delay_most_seconds,
                    limits.failure_half_life_seconds)
    return Attempts(Failures(growth, time.monotonic), crowd, clock.seconds, hostname=config.hostname.encode())


def wrapped(factory: Any, listener: ListenSection, tls: ServerTLS | None, clock: Any) -> Any:
    """Return what listens for a factory: it, or TLS in front of it, and PROXY headers in front of both."""
    at_once = listener.protocol == "pop3s" or listener.implicit_tls
    served = TLSFactory(tls, factory, clock) if at_once and tls is not None else factory
    if listener.proxy_from is None:
        return served
    crowd = None if listener.protocol == "lmtp" else factory.crowd
    return ProxyFactory(served, Trusted(listener.proxy_from), clock, crowd=crowd,
                        tls=bool(listener.proxy_tls))


def kpop_factory(config: Config, listener: ListenSection, doors: Doors, clock: Any,
                 tls: ServerTLS | None = None, crowd: Crowd | None = None,
                 attempts: Attempts | None = None) -> KPOPFactory:
    """Return the factory of a KPOP listener; libkrb5 is loaded when it is first needed.

    Raises: ConfigurationError, without the package that loads it.
    """
    section = config.kerberos
    assert section is not None, "the configuration was checked"
    try:
        require_cffi()
    except ConfigurationError as fault:
        where = f"listen[{config.listen.index(listener)}].protocol"
        raise ConfigurationError([f"{where}: {words}" for words in fault.problems]) from fault
    acceptor = Acceptor(ServiceKey(str(config.keytab_path), section.service), clock)
    return KPOPFactory(doors.principals(listener), acceptor, versions=section.versions or (),
                       policy=pop3_policy(config, listener), clock=clock, tls=tls, crowd=crowd,
                       attempts=attempts)


def pop3_policy(config: Config, listener: ListenSection) -> Policy:
    """Return what a POP3 listener offers and bounds."""
    limits, pop3 = config.limits, config.pop3
    return Policy(
        greeting=listener.greeting.encode() if listener.greeting is not None else Policy.greeting,
        hostname=config.hostname.encode(),
        apop=pop3.apop,
        mechanisms=None if listener.mechanisms is None else tuple(
            name.encode() for name in listener.mechanisms),
        certificate_name=listener.certificate_name,
        plaintext_login=listener.plaintext_login,
        expire=config.expire_words,
        login_delay_seconds=pop3.login_delay_seconds,
        last=pop3.last,
        sdps=pop3.sdps,
        limits=Limits(
            line_octets=limits.line_octets,
            auth_line_octets=limits.auth_line_octets,
            backlog_octets=limits.backlog_octets,
            bad_commands=limits.bad_commands,
            failed_logins=limits.failed_logins,
            idle_seconds=limits.idle_seconds,
            login_seconds=limits.login_seconds,
            progress_seconds=limits.progress_seconds,
            failure_delay_seconds=limits.failure_delay_seconds,
            failure_growth=limits.failure_growth,
            failure_delay_most_seconds=limits.failure_delay_most_seconds,
            failure_half_life_seconds=limits.failure_half_life_seconds))


def lmtp_policy(config: Config) -> LmtpPolicy:
    """Return what an LMTP listener offers and bounds."""
    limits = config.limits
    return LmtpPolicy(
        size_octets=limits.size_octets,
        recipients=limits.recipients,
        received_limit=limits.received_fields,
        backlog_octets=limits.backlog_octets,
        bad_commands=limits.bad_commands,
        idle_seconds=limits.lmtp_idle_seconds,
        progress_seconds=limits.progress_seconds)
