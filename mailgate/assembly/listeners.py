"""From [[listen]] sections to factories: what each protocol is told of the configuration."""

from __future__ import annotations

from typing import Any

from mailgate.assembly.auth import Doors
from mailgate.config import Config, ListenSection
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.net.lmtp import LMTPFactory
from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Limits, Policy


def make_factory(config: Config, listener: ListenSection, store: Any, doors: Doors, clock: Any) -> Any:
    """Return the factory of a listener; it has a `shutdown` that tells its sessions and ends them."""
    if listener.protocol == "lmtp":
        return LMTPFactory(store, doors.router(listener), hostname=config.hostname,
                           policy=lmtp_policy(config), clock=clock)
    return POP3Factory(doors.portal(listener), policy=pop3_policy(config, listener), clock=clock)


def pop3_policy(config: Config, listener: ListenSection) -> Policy:
    """Return what a POP3 listener offers and bounds."""
    limits, pop3 = config.limits, config.pop3
    return Policy(
        greeting=listener.greeting.encode() if listener.greeting is not None else Policy.greeting,
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
            failure_delay_seconds=limits.failure_delay_seconds))


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
