"""What most accounts have in common (`Habits`): of accounts in memory, and of those in a database."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from mailgate.model import Account, Habits
from mailgate.names import fold, split_address
from mailgate.stores.sql.cursor import Cursor

# A stored form is iterations,salt in base64,... (`auth.kept`); the first one of an account counts.
LOOKED_AT = 1000        # accounts with verifiers for a scheme, of 100,000: all would take seconds
_SCRAM_FORM = re.compile(r"([0-9]+),([^,=]+)=*,")


def habits_of(accounts: Iterable[Account], schemes: Sequence[str]) -> Habits:
    """Return what most of these accounts have in common."""
    named: dict[str, Counter[bool]] = defaultdict(Counter)
    usual: dict[str, Counter[tuple[int, int]]] = {scheme: Counter() for scheme in schemes}
    parents: set[str] = set()
    sdps = False
    for account in accounts:
        name, sdps = fold(account.name), sdps or account.sdps
        for address in set(map(fold, account.addresses)):
            local, domain = split_address(address)
            named[domain][local == name] += 1
        parents.update(domain.removeprefix(f"{name}.") for domain in map(fold, account.domains)
                       if domain.startswith(f"{name}."))
        for scheme in schemes:
            usual[scheme].update(_scram_habit(scheme, account.verifiers))
    local_ones = {domain for domain, counted in named.items() if counted[True] >= counted[False]}
    return Habits(frozenset(local_ones), frozenset(named) - local_ones, sdps, frozenset(parents),
                  {scheme: _most(counted) for scheme, counted in usual.items() if counted})


def _scram_habit(scheme: str, verifiers: Iterable[str]) -> list[tuple[int, int]]:
    for verifier in verifiers:
        word, brace, text = verifier.partition("}")
        form = _SCRAM_FORM.match(text)
        if brace and word.upper() == "{" + scheme and form is not None:
            return [(int(form[1]), len(form[2]) * 3 // 4)]
    return []


def _most(counted: Counter[tuple[int, int]]) -> tuple[int, int]:
    return min(counted, key=lambda one: (-counted[one], one))


# In a database --------------------------------------------------------------------------------

_NAMED = """
    SELECT at_tail,
           2 * sum(CASE WHEN account_key.key = account.key || '@' || at_tail THEN 1 ELSE 0 END) >= count(*)
    FROM account_key JOIN account ON account.id = account_id
    WHERE is_address AND at_tail IS NOT NULL GROUP BY at_tail"""
_HOST_PARENTS = """
    SELECT DISTINCT substr(account_key.key, length(account.key) + 2)
    FROM account JOIN account_key ON account_id = account.id
    WHERE sdps AND is_domain AND substr(account_key.key, 1, length(account.key) + 1) = account.key || '.'"""
_SCRAM = f"""
    WITH form AS (SELECT substr(verifiers, instr(upper(verifiers), :word) + length(:word)) AS text
                  FROM account WHERE verifiers LIKE '%"' || :word || '%' ORDER BY id LIMIT {LOOKED_AT}),
         split AS (SELECT CAST(text AS INTEGER) AS iterations, substr(text, instr(text, ',') + 1) AS rest
                   FROM form),
         habit AS (SELECT iterations,
                          length(rtrim(substr(rest, 1, instr(rest, ',') - 1), '=')) * 3 / 4 AS octets
                   FROM split)
    SELECT iterations, octets FROM habit WHERE iterations > 0 AND octets > 0 GROUP BY iterations, octets
    ORDER BY count(*) DESC, iterations, octets LIMIT 1"""


def read_habits(cursor: Cursor, schemes: Sequence[str]) -> Habits:
    """Return what most accounts have in common. Reads all of them."""
    named = cursor.execute(_NAMED).fetchall()
    parents = [parent for parent, in cursor.execute(_HOST_PARENTS).fetchall()]
    sdps = cursor.execute("SELECT EXISTS (SELECT 1 FROM account WHERE sdps)").fetchone()[0]
    scram = {scheme: cursor.execute(_SCRAM, {"word": f"{{{scheme}}}"}).fetchone() for scheme in schemes}
    return Habits(frozenset(domain for domain, local in named if local),
                  frozenset(domain for domain, local in named if not local), bool(sdps), frozenset(parents),
                  {scheme: usual for scheme, usual in scram.items() if usual is not None})
