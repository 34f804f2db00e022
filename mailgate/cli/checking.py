"""`mailgate check`: is everything as it must be, and if not, what is wrong where?"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from twisted.internet.interfaces import IReactorTime

from mailgate.assembly.store import belongs_to_folder, make_blobs
from mailgate.cli.checking_bodies import bucket_faults
from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.telling import Refusal, reason, tell
from mailgate.config import CheckerSection, Config
from mailgate.config.endpoints import split_endpoint
from mailgate.config.problems import spelled
from mailgate.config.stores import MAIN, only, path_of
from mailgate.errors import ConfigurationError, MailgateError


@click.command()
@pass_settings
def check(settings: Settings) -> None:
    """Look at the configuration, the store, the checkers' files, certificates, keytab and listeners.

    Exit codes: 0 all is well, 78 something in the configuration or in what it names, 65 the store.
    """
    path, config = settings.path, settings.config
    certificates, warnings = _certificates(config)
    problems = [*_listeners(config), *certificates, *_keytab(config), *_checkers(config),
                *_files_of_stores(config)]
    for warning in [*warnings, *_misgivings(config)]:
        tell(f"{path}: warning: {warning}")
    findings: list[str] = []
    in_the_way: list[str] = []
    missing = [file for _, view in _stores_in_use(config)
               if (file := view.metadata_path) is not None and not file.exists()]
    if problems or missing:
        problems += _published_keys(config)
    else:
        try:
            findings, in_the_way = _store(config)
        except ConfigurationError as fault:
            problems = fault.problems
    if problems:
        raise Refusal(*(f"{path}: {problem}" for problem in problems), code=os.EX_CONFIG)
    if findings:
        raise Refusal(*(f"store: {finding}" for finding in findings), code=os.EX_DATAERR)
    for line in in_the_way:
        tell(f"{path}: warning: {line}")
    click.echo(f"{path}: all is well")
    for file in missing:
        click.echo(f"{file}: not there yet; it is made at the first start")


def _listeners(config: Config) -> list[str]:
    """Return what keeps unix sockets from being made; whether ports are free shows only the service."""
    problems = []
    for index, one in enumerate(config.listen):
        parts = split_endpoint(config.endpoint_of(one))
        if parts.kind == "unix":
            folder = Path(parts.argument(0, "address")).parent
            if fault := _not_a_folder(folder):
                problems.append(f"listen[{index}].endpoint: {fault}")
    return problems


def _not_a_folder(folder: Path) -> str:
    if not folder.is_dir():
        return f"there is no folder {folder}"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder}: no permission to write"


def _certificates(config: Config) -> tuple[list[str], list[str]]:
    """Return what is wrong with the certificates, and what clients will dislike of them."""
    if config.tls is None:
        return [], []
    from twisted.internet import reactor

    from mailgate.assembly.tls import Certificates

    try:
        certificates = Certificates(config, IReactorTime(reactor))
    except ConfigurationError as fault:
        return fault.problems, []
    return [], list(certificates.warnings(datetime.now(timezone.utc)))


def _keytab(config: Config) -> list[str]:
    """Return what keeps listeners from taking tickets, by KPOP or AUTH GSSAPI."""
    from mailgate.assembly.listeners import ticket_service
    from mailgate.auth.kerberos import ServiceKey

    section = config.kerberos
    if section is None:
        return []
    faults = []
    if any(one.takes_tickets for one in config.listen):
        faults = ticket_service(config).faults()
    elif any(one.protocol == "kpop" for one in config.listen):
        faults = ServiceKey(str(config.keytab_path), section.service).faults()
    return [f"kerberos.keytab: {words}" for words in faults]


def _checkers(config: Config) -> list[str]:
    from mailgate.assembly.directory import ldap_faults
    from mailgate.assembly.tokens import key_file_faults
    from mailgate.auth.passwdfile import parse

    problems = []
    for index, one in enumerate(config.checker):
        if one.kind == "pam":
            problems += [f"checker[{index}].service: {words}" for words in _pam(one)]
        if one.kind == "ldap":
            problems += [f"checker[{index}]{words}" for words in ldap_faults(config, one)]
        if one.kind == "oauth":
            problems += [f"checker[{index}].{words}" for words in key_file_faults(one, config.folder)]
        if one.kind != "passwd-file":
            continue
        file = config.passwd_path(one)
        try:
            lines = parse(file.read_bytes())[1]
        except OSError as fault:
            problems.append(f"checker[{index}].path: {file}: {fault.strerror}")
        else:
            problems += [f"checker[{index}].path: {file} line {number}: {words}" for number, words in lines]
    return problems


def _published_keys(config: Config) -> list[str]:
    """Return what is wrong with keys of tokens that are fetched; for a process that opens no store."""
    from mailgate.assembly.tokens import is_published, published_faults
    from mailgate.cli.running import without_store

    if not any(is_published(one) for one in config.checker):
        return []
    return without_store(lambda reactor: published_faults(config, reactor))


def _pam(section: CheckerSection) -> list[str]:
    """Return what keeps PAM from being asked."""
    from mailgate.assembly.pam import pam_settings
    from mailgate.auth.pam_service import faults

    return faults(pam_settings(section))


def _misgivings(config: Config) -> list[str]:
    """Return what about checkers may not be as it was meant."""
    from mailgate.assembly.directory import ldap_warnings
    from mailgate.assembly.pam import pam_settings
    from mailgate.auth.pam_service import misgivings

    found = []
    for index, one in enumerate(config.checker):
        if one.kind == "pam":
            found += [f"checker[{index}].service: {words}" for words in misgivings(pam_settings(one))]
        found += [f"checker[{index}].starttls: {words}" for words in ldap_warnings(one)]
        if one.kind == "passwd-file" and _may_be_cut(config.passwd_path(one)):
            found.append(f"checker[{index}].path: {config.passwd_path(one)} does not end with a line end; "
                         "users whose lines go from it are taken to come again")
    return found


def _may_be_cut(file: Path) -> bool:
    try:
        return not file.read_bytes().endswith(b"\n")
    except OSError:
        return False


def _stores_in_use(config: Config) -> list[tuple[str, Config]]:
    """Return what the service opens: each store by its name, with a configuration whose [store] it is."""
    return [(name, only(config, name)) for name in dict.fromkeys((MAIN, *(config.store.merge or ())))]


def _files_of_stores(config: Config) -> list[str]:
    """Return what is not there, of every store that the service opens."""
    return [problem.replace("store.", f"{spelled(path_of(name))}.", 1) if name != MAIN else problem
            for name, view in _stores_in_use(config) for problem in _store_files(view)]


def _store_files(config: Config) -> list[str]:
    """Return what is not there: a check makes nothing."""
    file, folder = config.metadata_path, config.bodies_path
    if problems := bucket_faults(config):
        return problems
    if file is None:
        return _bodies(folder)
    if not file.exists() and _are_owned(config):
        bodies = folder or f"s3:{config.store.bodies.path}"
        return [f"store.metadata: there is no {file}, and its bodies are in {bodies}"]
    if not file.exists():
        if belongs_to_folder(config.folder, config.store):
            return []
        return [f"store.metadata: there is no {file}: its disk may not be mounted; the first"
                " `mailgate account add` makes it"]
    if not os.access(file, os.R_OK | os.W_OK):
        return [f"store.metadata: {file}: no permission to read and write"]
    return _bodies(folder)


def _bodies(folder: Path | None) -> list[str]:
    if folder is not None and folder.exists() and (fault := _not_a_folder(folder)):
        return [f"store.bodies: {fault}"]
    return []


def _are_owned(config: Config) -> bool:
    """Return whether there are bodies of some store; it is not to begin anew beside them."""
    if config.bodies_path is not None and not config.bodies_path.exists():
        return False
    try:
        return make_blobs(config.store, config.folder).owner() is not None
    except MailgateError:
        return True


def _store(config: Config) -> tuple[list[str], list[str]]:
    """Return what is wrong with the store, and which accounts keep mechanisms from being announced.

    Raises: ConfigurationError, for keys of tokens that cannot be fetched.
    """
    from twisted.internet import reactor

    from mailgate.assembly.tokens import published_faults
    from mailgate.cli.mechanisms import standing_in_the_way
    from mailgate.cli.running import with_store

    async def work(store: Any) -> tuple[list[str], list[str]]:
        if problems := await published_faults(config, reactor):
            raise ConfigurationError(problems)
        findings: list[str] = await store.check()
        return findings, [] if findings else await standing_in_the_way(config, store)

    try:
        return with_store(config, work)
    except ConfigurationError:
        raise
    except MailgateError as fault:
        return [reason(fault)], []
