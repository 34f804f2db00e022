"""The certificates that a configuration names: read for its listeners, and again when their files change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mailgate.config import CertificateSection, Config, ListenSection, TlsSection
from mailgate.config.problems import spelled
from mailgate.errors import ConfigurationError
from mailgate.net.certificates import BadCertificate, misgivings, read_authorities, read_identity
from mailgate.net.tls import Material, ServerTLS

TICKET_KEY_SECONDS = 12 * 3600      # whoever steals the keys of tickets reads what was said in so long

log = Logger()


class Source:
    """Something read from files. `marks` are those of the files just before they were read."""

    def __init__(self, where: str, paths: tuple[Path, ...], read: Callable[..., Any]) -> None:
        self.where = where
        self.paths = paths
        self.value: Any = None
        self.marks: tuple[Any, ...] = ()
        self._read = read

    def read(self) -> Any:
        """Return what the files hold now. Raises: BadCertificate."""
        self.marks = self._marks_now()
        return self._read(*self.paths)

    def has_changed(self) -> bool:
        """Whether the files are others than those that were read last."""
        return self.marks != self._marks_now()

    def _marks_now(self) -> tuple[Any, ...]:
        return tuple(_mark(path) for path in self.paths)


def _mark(path: Path) -> object:
    try:
        found = os.stat(path)
    except OSError as fault:
        return fault.errno
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


class Certificates:
    """What a service's listeners prove themselves with. Raises: ConfigurationError, with every problem."""

    def __init__(self, config: Config, clock: IReactorTime) -> None:
        self._config = config
        self._clock = clock
        self._listeners: dict[int, ServerTLS] = {}
        self._names: dict[str, Source] = {}
        self._authorities: dict[int, Source] = {}
        self._made = clock.seconds()
        if config.tls is not None:
            self._list(config.tls)
            self._read_all()

    def _list(self, section: TlsSection) -> None:
        self._default = self._pair(("tls",), section)
        self._names = {name: self._pair(("tls", "sni", name), one) for name, one in section.sni.items()}
        for index, one in enumerate(self._config.listen):
            self._listeners[index] = tls_of(one)
            if one.client_ca is not None:
                self._authorities[index] = Source(
                    f"listen[{index}]", (self._config.folder / one.client_ca,), read_authorities)

    def _pair(self, where: tuple[str, ...], section: TlsSection | CertificateSection) -> Source:
        folder = self._config.folder
        return Source(spelled(where), (folder / section.certificate, folder / section.key), read_identity)

    def _read_all(self) -> None:
        problems = []
        for source in self._sources():
            try:
                source.value = source.read()
                self._judge(source, source.value)
            except BadCertificate as fault:
                problems.append(_told(source, fault))
        if problems:
            raise ConfigurationError(problems)
        self._install()

    def of(self, index: int) -> ServerTLS | None:
        """Return the TLS of a listener, by its place in the configuration; None without [tls]."""
        return self._listeners.get(index)

    # Files that change --------------------------------------------------------------------------

    def look(self) -> None:
        """Read again what has changed, and from time to time replace the keys of tickets."""
        self._renew([source for source in self._sources() if source.has_changed()])
        if self._listeners and self._clock.seconds() - self._made >= TICKET_KEY_SECONDS:
            self._install()

    def reload(self) -> None:
        """Read all files again. What is wrong with one is logged, and what it was read to before stays."""
        self._renew(self._sources())

    def _renew(self, sources: Iterable[Source]) -> None:
        renewed = False
        for source in sources:
            try:
                fresh = source.read()
                self._judge(source, fresh)
            except BadCertificate as fault:
                log.error("{problem}; the one before stays in use", problem=_told(source, fault))
                continue
            source.value = fresh
            renewed = True
            log.info("{where}: {file} is in use", where=source.where, file=str(source.paths[0]))
        if renewed:
            self._install()

    def _judge(self, source: Source, value: Any) -> None:
        """Try what was read with every listener. Raises: BadCertificate."""
        if source in self._authorities.values():
            return
        for index, tls in self._listeners.items():
            try:
                tls.prepare(Material(value))
            except BadCertificate as fault:
                raise BadCertificate(fault.setting, f"{source.paths[fault.setting == 'key']}: {fault} "
                                                    f"(listen[{index}], {tls.profile})") from fault

    def _install(self) -> None:
        names = {name: source.value for name, source in self._names.items()}
        prepared = []
        for index, tls in self._listeners.items():
            authorities = self._authorities.get(index)
            prepared.append((tls, tls.prepare(Material(
                self._default.value, names, authorities.value if authorities is not None else ()))))
        for tls, context in prepared:
            tls.install(context)
        self._made = self._clock.seconds()

    def _sources(self) -> list[Source]:
        if not self._listeners:
            return []
        return [self._default, *self._names.values(), *self._authorities.values()]

    # What an operator should know ---------------------------------------------------------------

    def warnings(self, now: datetime) -> Iterator[str]:
        """Give what clients will dislike, each with its path; `now` is in UTC, with its zone."""
        for index, tls in self._listeners.items():
            if tls.profile == "legacy":
                yield (f"listen[{index}].tls_profile: legacy lets clients in that know nothing better than "
                       "TLS 1.0, which can be broken")
        for source, names in self._identities():
            for words in misgivings(source.value, names, now):
                yield f"{source.where}.certificate: {source.paths[0]}: {words}"

    def _identities(self) -> Iterator[tuple[Source, tuple[str, ...]]]:
        if not self._listeners:
            return
        host = self._config.hostname
        yield self._default, () if host.lower() in self._names else (host,)
        for name, source in self._names.items():
            yield source, (name,)


def tls_of(listener: ListenSection) -> ServerTLS:
    """Return the TLS of a listener, without a certificate yet."""
    return ServerTLS(
        listener.tls_profile or "intermediate",
        protocol=b"" if listener.protocol == "lmtp" else b"pop3",
        client_certificates=listener.client_certificates or "no")


def _told(source: Source, fault: BadCertificate) -> str:
    return f"{source.where}.{fault.setting}: {fault}"
