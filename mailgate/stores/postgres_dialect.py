"""The words of PostgreSQL for those of SQLite in which the store's SQL is written: one table.

It knows what our own statements use of SQLite, not SQLite. A statement is translated once and kept.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailgate.stores.sql.leases import NOW_MS

KEPT_STATEMENTS = 1024

NOW = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"     # not the transaction's begin
LISTED = r"jsonb_array_elements_text(CAST(\g<json> AS JSONB)) AS listed (value)"
# What counts changes, of maildrops and of accounts, grows by chance: where a failover undid some, those that
# come instead are told apart from what a process may have kept in memory of the ones that were lost.
STEP = "CAST(1 + floor(random() * 4294967296) AS BIGINT)"
_VALUE = r"\?|:\w+"

REPLACEMENTS: tuple[tuple[re.Pattern[str], str], ...] = tuple((re.compile(words), by) for words, by in (
    (re.escape(NOW_MS), NOW),
    # Lists go in as JSON; of serials and ids it holds numbers, of keys text.
    (rf"\b(?P<column>id|body_id|serial) IN \(SELECT value FROM json_each\((?P<json>{_VALUE})\)\)",
     rf"\g<column> IN (SELECT CAST(value AS BIGINT) FROM {LISTED})"),
    (rf"FROM json_each\((?P<json>{_VALUE})\)", rf"FROM {LISTED}"),
    (r"json_group_array\(json_array\(([^()]*)\)\)",
     r"CAST(coalesce(json_agg(json_build_array(\1)), '[]') AS TEXT)"),
    (rf"\bchange = change \+ (1|{_VALUE})", rf"change = change + \1 * {STEP}"),
    (r"\blast = last \+ 1\b", f"last = last + {STEP}"),
    # What a sub-select has put in order an aggregate may take in any.
    (r"group_concat\((\w+), ','\)", r"string_agg(CAST(\1 AS TEXT), ',' ORDER BY serial)"),
    (r"group_concat\(unique_id, ' '\)",
     r"convert_from(string_agg(unique_id, CAST(' ' AS BYTEA) ORDER BY serial), 'UTF8')"),
    (r" INDEXED BY \w+", ""),
    (r"\bifnull\(", "coalesce("),
    (r"\binstr\(", "strpos("),
    (r"\bLIKE\b", "ILIKE"),
    (r"\bIS NOT (?!NULL\b|DISTINCT\b)", "IS DISTINCT FROM "),
    (r"\bCAST\((\w+) AS INTEGER\)", r"CAST(substring(\1 FROM '^[0-9]{1,9}') AS INTEGER)"),
    (r"(:\w+) IS NULL", r"CAST(\1 AS TEXT) IS NULL"),       # else its type could be any
    (r"\bx''", "CAST('' AS BYTEA)"),
    (r"\bPRAGMA quick_check\(\d+\)", "SELECT 'ok'"),        # PostgreSQL has page checksums
))
_TOKEN = re.compile(r"(?P<literal>'(?:[^']|'')*')|(?P<question>\?)|:(?P<name>\w+)|(?P<percent>%)")


@lru_cache(KEPT_STATEMENTS)
def translate(statement: str) -> bytes:
    """Return a statement as psycopg takes it: PostgreSQL's words, and `%s` or `%(name)s` for values."""
    for pattern, words in REPLACEMENTS:
        statement = pattern.sub(words, statement)
    return _TOKEN.sub(_placeholder, statement).encode()


def _placeholder(match: re.Match[str]) -> str:
    if match["literal"] is not None:
        return match["literal"].replace("%", "%%")
    if match["question"] is not None:
        return "%s"
    if match["name"] is not None:
        return f"%({match['name']})s"
    return "%%"
