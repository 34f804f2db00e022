"""The stores of a configuration and how they are told apart: [store], each [stores.NAME], a merge of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import attrs

from mailgate.config.buckets import parse_bucket
from mailgate.config.databases import SCHEMES, parse_database
from mailgate.config.problems import KeyPath, Problem, spelled
from mailgate.config.sections import Config, StoreSection
from mailgate.config.values import Location
from mailgate.errors import ConfigurationError
from mailgate.formats.uniqueids import MAILDIR, MBOX

MAIN = "store"                  # [store] among the names of stores
WHOLE = "merge"                 # the merge that it is of, where a command asks for a name
PART_NAME_CHARACTERS = 32       # its name is in front of unique-ids, which have 70 octets at most

PLACES = {"metadata": "is the database of", "bodies": "holds the bodies of", "maildrops": "holds the mail of"}

_OF_THE_MAIN = ("merge", "deliver_to", "retention_days", "housekeeping_seconds")


def sections(config: Config) -> Mapping[str, StoreSection]:
    """Return every store's section by its name, the main one's first."""
    return {MAIN: config.store, **{name: one for name, one in config.stores.items() if name != MAIN}}


def only(config: Config, name: str) -> Config:
    """Return a configuration whose [store] is the store of this name, merged with no other.

    Raises: ConfigurationError, if there is none of this name.
    """
    known = sections(config)
    if name not in known:
        raise ConfigurationError([f"there is no [stores.{name}]; there are: {', '.join(known)}"])
    section = attrs.evolve(known[name], merge=None, deliver_to=None, optional=False)
    return attrs.evolve(config, store=section, stores={})


def none_optional(config: Config) -> Config:
    """Return a configuration whose merge is had as a whole or not at all: for who takes what is not there
    for gone."""
    stores = {name: attrs.evolve(one, optional=False) for name, one in config.stores.items()}
    return attrs.evolve(config, stores=stores)


def collide(one: Config, other: Config) -> bool:
    """Return whether two configurations have a place in common, each with all the stores of its merge."""
    return not _all_places(one).isdisjoint(_all_places(other))


def _all_places(config: Config) -> set[tuple[str, tuple[str, str]]]:
    known = sections(config)
    return {(setting, _place(config, location)) for name in (MAIN, *(config.store.merge or ()))
            for setting in PLACES if (location := getattr(known[name], setting))}


def path_of(name: str) -> KeyPath:
    """Return where in the file a store's section is."""
    return ("store",) if name == MAIN else ("stores", name)


def store_contradictions(config: Config) -> Iterator[Problem]:
    """Give what is wrong between the sections of stores."""
    if MAIN in config.stores:
        yield Problem(("stores", MAIN), "is the name of [store] itself")
    if WHOLE in config.stores:
        yield Problem(("stores", WHOLE), "is the name that commands have for the whole merge")
    yield from _places(config)
    yield from _buckets(config)
    yield from _spools(config)
    yield from _merge(config)
    for name, section in config.stores.items():
        yield from _of_the_main(("stores", name), section)


def _of_the_main(where: KeyPath, section: StoreSection) -> Iterator[Problem]:
    for setting in _OF_THE_MAIN:
        if getattr(section, setting) != getattr(attrs.fields(StoreSection), setting).default:
            words = "a merge in a merge: only [store] has one" if setting == "merge" else \
                "is a setting of [store], for all of its merge"
            yield Problem((*where, setting), words)


def _merge(config: Config) -> Iterator[Problem]:
    names, main = config.store.merge, config.store
    if main.optional:
        yield Problem(("store", "optional"), "it has the accounts: without it nobody can log in")
    if names is None:
        if main.deliver_to is not None:
            yield Problem(("store", "deliver_to"), "has no meaning without `merge`")
        return
    where = ("store", "merge")
    known = sections(config)
    for name in names:
        if name not in known:
            yield Problem(where, f"there is no [stores.{name}]; there are: {', '.join(known)}")
        elif len(name) > PART_NAME_CHARACTERS:
            yield Problem(where, f"{name}: of a store that is merged the name has at most"
                                 f" {PART_NAME_CHARACTERS} characters")
    if len(names) < 2:
        yield Problem(where, "one store alone is no merge")
    if main.deliver_to is not None and main.deliver_to not in names:
        yield Problem(("store", "deliver_to"), f"is none of the merge: {', '.join(names)}")
    if all(name in known and known[name].optional for name in names):
        yield Problem(where, "all of them are optional: an outage would look like an empty maildrop")


def _places(config: Config) -> Iterator[Problem]:
    """Two stores in one place would hold each other's leases, and sweep each other's bodies."""
    for setting, words in PLACES.items():
        first: dict[tuple[str, str], str] = {}
        for name, section in sections(config).items():
            location = getattr(section, setting)
            place = location and _place(config, location)
            if place and (other := first.setdefault(place, name)) != name:
                told = spelled(path_of(other))
                yield Problem((*path_of(name), setting), f"{words} [{told}] already")


def _buckets(config: Config) -> Iterator[Problem]:
    for name, section in sections(config).items():
        for setting in ("s3_credentials", "s3_ca_file"):
            if getattr(section, setting) is not None and section.bodies.scheme != "s3":
                yield Problem((*path_of(name), setting), 'has no meaning without bodies = "s3://..."')


def _spools(config: Config) -> Iterator[Problem]:
    """Give what does not go with the mail of other programs, or without it."""
    default = attrs.fields(StoreSection).envelope_recipient.default
    for name, section in sections(config).items():
        where = path_of(name)
        if section.maildrops is None:
            if section.envelope_recipient != default:
                yield Problem((*where, "envelope_recipient"), "has no meaning without `maildrops`")
            continue
        if not section.envelope_recipient:
            yield Problem((*where, "envelope_recipient"), "the array is empty")
        kind = {"maildir": MAILDIR, "mbox": MBOX}[section.maildrops.scheme]
        if not section.unique_ids.keeps(kind):
            yield Problem((*where, "unique_ids"), f"{section.unique_ids.name} keeps its mail in no {kind}")


def _place(config: Config, location: Location) -> tuple[str, str]:
    """Return what two descriptions of one place have in common. What lies behind links is not looked at."""
    if location.scheme in ("sqlite", "file", "maildir", "mbox"):
        return location.scheme, os.path.abspath(config.folder / location.path)
    if location.scheme == "s3":
        bucket = parse_bucket(location.path)
        return location.scheme, f"{bucket.endpoint} {bucket.name}/{bucket.prefix}"
    if location.scheme in SCHEMES:
        return SCHEMES[0], str(parse_database(location.path))
    return location.scheme, location.path
