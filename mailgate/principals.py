"""Kerberos principals, and the rules that say which maildrops each may open.

A rule is written `PRINCIPAL -> MAILDROP`. In the principal a component `{name}` stands for any one
plain name; the maildrop (`NAME`, or `USER@HOST` for the view of an SDPS user) may use what it stood
for, and a `*` there means any text without `@`. Without rules a principal of one component opens the
maildrop of that name. What no rule permits is refused: `u/admin@R` is nobody's `u`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mailgate.names import fold

_PIECE = re.compile(r"\\(.)|([/@])|([^\\/@]+)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "0": "\0"}
_UNESCAPES = {"\\": "\\\\", "/": "\\/", "@": "\\@", "\n": "\\n", "\t": "\\t", "\b": "\\b", "\0": "\\0"}
_CAPTURE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
# What a captured component may be: no separator of principals or of login names, so that a rule for
# names never opens an address or an SDPS view, and nothing that a log or a path would mind.
_PLAIN = re.compile(r"[^\s\x00-\x20\x7f-\xa0@+/\\:\ud800-\udfff]+")
_TARGET = re.compile(r"\{([a-z][a-z0-9_]*)\}|(\*)|([^{}*\s]+)")


class Principal(NamedTuple):
    """A principal's name: its components (the first is the user or the service) and its realm."""

    components: tuple[str, ...]
    realm: str

    def __str__(self) -> str:
        return "/".join(_escaped(component) for component in self.components) + "@" + _escaped(self.realm)


def parse_principal(text: str) -> Principal:
    """Return the principal that a text with its realm spells; `\\` quotes `/`, `@` and itself.

    Raises: ValueError, its text for an operator.
    """
    pieces = [""]
    realm: int | None = None
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise ValueError("it ends in a lone backslash")
        at = found.end()
        escaped, separator, plain = found.groups()
        if separator is None:
            pieces[-1] += plain if escaped is None else _ESCAPES.get(escaped, escaped)
        elif realm is not None:
            raise ValueError(f"a {separator} behind the realm")
        else:
            pieces.append("")
            if separator == "@":
                realm = len(pieces) - 1
    if realm is None:
        raise ValueError("no @REALM at its end")
    if not all(pieces):
        raise ValueError("an empty component or realm")
    return Principal(tuple(pieces[:realm]), pieces[realm])


def _escaped(text: str) -> str:
    return "".join(_UNESCAPES.get(character, character) for character in text)


class _Target(NamedTuple):
    """One piece of a rule's right side; one of the three is set."""

    capture: str | None
    anything: str | None
    literal: str | None


class Rule(NamedTuple):
    """One rule, as `parse_rule` reads it."""

    components: tuple[str, ...]     # "{name}" for a capture
    realm: str
    target: tuple[_Target, ...]

    def opens(self, principal: Principal, maildrop: str) -> bool:
        """Return whether the principal may open a maildrop, given as a key (`names.fold`)."""
        spelled = self._spelled(principal)
        return spelled is not None and re.fullmatch(
            "".join("[^@]+" if piece is None else re.escape(piece) for piece in spelled), maildrop,
            re.DOTALL) is not None

    def names(self, principal: Principal) -> str | None:
        """Return the one maildrop that the rule opens to the principal, if it is one and no pattern."""
        spelled = self._spelled(principal)
        return None if spelled is None or None in spelled else "".join(piece or "" for piece in spelled)

    def _spelled(self, principal: Principal) -> list[str | None] | None:
        """Return the maildrop's pieces, None for any text; None if this is no rule for the principal."""
        if principal.realm != self.realm or len(principal.components) != len(self.components):
            return None
        captured: dict[str, str] = {}
        for wanted, component in zip(self.components, principal.components, strict=True):
            name = _CAPTURE.fullmatch(wanted)
            if name is None:
                if component != wanted:
                    return None
            elif not _PLAIN.fullmatch(component):
                return None
            else:
                captured[name[1]] = component
        return [captured[piece.capture] if piece.capture is not None else piece.literal
                for piece in self.target]


def parse_rule(text: str) -> Rule:
    """Return the rule that a text spells. Raises: ValueError, its text for an operator."""
    left, arrow, right = text.partition("->")
    if not arrow:
        raise ValueError("no -> between principal and maildrop")
    principal = parse_principal(left.strip())
    if "{" in principal.realm or "*" in principal.realm:
        raise ValueError("a realm is spelled out")
    captures: list[str] = []
    for component in principal.components:
        name = _CAPTURE.fullmatch(component)
        if name is not None:
            captures.append(name[1])
        elif "{" in component or "}" in component or "*" in component:
            raise ValueError(f"{component}: a component is spelled out, or {{name}} as a whole")
    if len(set(captures)) != len(captures):
        raise ValueError("a {name} stands twice in the principal")
    return Rule(principal.components, principal.realm, _target(right.strip(), captures))


def _target(text: str, captures: list[str]) -> tuple[_Target, ...]:
    pieces = []
    at = 0
    while at < len(text):
        found = _TARGET.match(text, at)
        if found is None:
            raise ValueError(f"{text}: blanks or a brace out of place in the maildrop")
        at = found.end()
        capture, anything, literal = found.groups()
        if capture is not None and capture not in captures:
            raise ValueError(f"{{{capture}}} is no component of the principal")
        pieces.append(_Target(capture, anything, None if literal is None else fold(literal)))
    if not pieces:
        raise ValueError("no maildrop behind the ->")
    return tuple(pieces)


class Rules:
    """All the rules of a listener; whatever one of them permits is permitted."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)

    @classmethod
    def of_realms(cls, realms: Iterable[str]) -> Rules:
        """Return the rules that hold where none is configured: a plain name opens its own maildrop."""
        return cls(Rule(("{name}",), realm, (_Target("name", None, None),)) for realm in realms)

    def permit(self, principal: Principal, maildrop: str, view: str | None = None) -> bool:
        """Return whether the principal may open a maildrop, or the view of an SDPS user of it.

        Names of maildrops are compared without regard to the case of ASCII letters, principals with
        regard to it: `Alice@R` is not `alice@R`, and opens nothing by a captured name.
        """
        key = fold(maildrop) if view is None else f"{fold(view)}@{fold(maildrop)}"
        return any(rule.opens(principal, key) for rule in self._rules)

    def own(self, principal: Principal) -> str | None:
        """Return the maildrop of a principal that names none: the first that a rule opens to it by name."""
        names = (rule.names(principal) for rule in self._rules)
        return next((name for name in names if name is not None), None)
