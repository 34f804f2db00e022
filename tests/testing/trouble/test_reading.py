"""Faults as they are written down: every kind, every setting, and what is wrong told with its place."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError
from mailgate.testing.trouble import content, delivery, listings, refusals, wording
from mailgate.testing.trouble.kinds import KINDS
from mailgate.testing.trouble.model import REQUIRED
from mailgate.testing.trouble.reading import WHEN, parse_scenario, read_fault

OURS = {kind.name: kind for module in (refusals, delivery, wording, content,
                                       listings) for kind in module.KINDS}

# Of each kind a table that says all of its settings, as TOML, and what they are read as.
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "error": ('code = "SYS/TEMP"\ntext = "no"\nexecute = true\nclose = true',
              {"code": "SYS/TEMP", "text": b"no", "execute": True, "close": True}),
    "answer": ('text = {hex = "0d0a"}\nraw = true\nexecute = true\nclose = true',
               {"text": b"\r\n", "raw": True, "execute": True, "close": True}),
    "login": ('code = "AUTH"\ntext = "no"\nexecute = true', {"code": "AUTH", "text": b"no", "execute": True}),
    "pretend": ('text = "+OK so"', {"text": b"+OK so"}),
    "quit": ('how = "partly"\nkeeps = [1, 3]\ntold = true', {"how": "partly", "keeps": (1, 3), "told": True}),
    "early": ('next = "STAT"\ntext = ""', {"next": "STAT", "text": b""}),
    "misheard": ('as = "TOP {1} 0"', {"as": "TOP {1} 0"}),
    "capabilities": ('hide = "UIDL"\nadd = ["X"]\nonly = []', {"hide": ("UIDL",), "add": ("X",), "only": ()}),
    **{name: ('at = -5\ninside = "crlf"\nnth = -1\nof = "content"',
              {"at": -5, "inside": "crlf", "nth": -1, "of": "content"}) for name in ("close", "reset",
                                                                                     "stall")},
    "drop": ('seconds = 3\nhow = "reset"\nsilent = true\ntext = "bye"',
             {"seconds": 3.0, "how": "reset", "silent": True, "text": b"bye"}),
    "delay": ('seconds = 0.5\njitter = 2\nat = 1\ninside = "dot"\nnth = 2\nof = "reply"',
              {"seconds": 0.5, "jitter": 2.0, "at": 1, "inside": "dot", "nth": 2, "of": "reply"}),
    "drip": ('octets = 2\nseconds = 1\nat = 1\ninside = "dot"\nnth = 2\nof = "reply"',
             {"octets": 2, "seconds": 1.0, "at": 1, "inside": "dot", "nth": 2, "of": "reply"}),
    "cut": ('every = 2\nat = 1\ninside = "stuffed"\nnth = 2\nof = "reply"',
            {"every": 2, "at": 1, "inside": "stuffed", "nth": 2, "of": "reply"}),
    "split": ("sizes = [1, 2]\nrandom = true", {"sizes": (1, 2), "random": True}),
    "join": ("replies = 2\nseconds = 0", {"replies": 2, "seconds": 0.0}),
    "swap": ("", {}),
    "endless": ('text = "x"\noctets = 1\nseconds = 1', {"text": b"x", "octets": 1, "seconds": 1.0}),
    "status": ('ok = "+ok"\nerr = "-err"\nbetween = ""\ntext = "x"',
               {"ok": b"+ok", "err": b"-err", "between": b"", "text": b"x"}),
    "continued": ('text = "x"\nmark = ""', {"text": b"x", "mark": b""}),
    "lines": ('how = "many"', {"how": "many"}),
    "echo": ("", {}),
    "repeat": ("again = 2", {"again": 2}),
    "swallow": ("", {}),
    "long_line": ('octets = 999\nwhere = "status"', {"octets": 999, "where": "status"}),
    "insert": ('text = "x"\nevery = 2\nat = 1\ninside = "line"\nnth = 2\nof = "reply"',
               {"text": b"x", "every": 2, "at": 1, "inside": "line", "nth": 2, "of": "reply"}),
    "replace": ('find = "x"\nput = "y"\nnth = 1', {"find": b"x", "put": b"y", "nth": 1}),
    "corrupt": ('octets = 2\nat = 1\ninside = "line"\nnth = 2\nof = "reply"',
                {"octets": 2, "at": 1, "inside": "line", "nth": 2, "of": "reply"}),
    "truncate": ('ends = false\nat = 1\ninside = "line"\nnth = 2\nof = "reply"',
                 {"ends": False, "at": 1, "inside": "line", "nth": 2, "of": "reply"}),
    "line_ends": ('end = "\\n\\r"\nevery = 2\nof = "status"', {"end": b"\n\r", "every": 2, "of": "status"}),
    "stuffing": ('how = "twice"', {"how": "twice"}),
    "terminator": ('how = "early"\nline = 3', {"how": "early", "line": 3}),
    "header": ('how = "many"\nfields = 3', {"how": "many", "fields": 3}),
    "sizes": ('of = "list"\nnumbers = 2\nadd = -1\nfactor = 0.5\nway = "lf"',
              {"of": ("list",), "numbers": (2,), "add": -1, "factor": 0.5, "exact": None, "way": "lf"}),
    "count": ("add = 1\nexact = 0", {"add": 1, "exact": 0}),
    "uids": ('how = "long"\nnumbers = [1]\noctets = 71', {"how": "long", "numbers": (1,), "octets": 71}),
    "listing": ('order = "random"\nomit = 1\ndouble = [2]\nextra = 1\ndeleted = true\nfirst = 0\nstep = 2\n'
                'ahead = " "\nbehind = "x"',
                {"order": "random", "omit": (1,), "double": (2,), "extra": 1, "deleted": True, "first": 0,
                 "step": 2, "ahead": b" ", "behind": b"x"}),
    "expunge": ('numbers = [1]\nwhen = "after"', {"numbers": (1,), "when": "after"}),
}

# What no reader of settings takes, whatever it is that it wants.
WRONG: tuple[Any, ...] = (object(), -1.5, {"hex": "0g"}, {"hex": "00", "x": 1}, [{}], [-1])


def problems(table: dict[str, Any]) -> list[str]:
    """Return what is wrong with a fault."""
    try:
        read_fault(table, "fault[3]")
    except ConfigurationError as fault:
        return list(fault.problems)
    return []


class KindTests(SynchronousTestCase):
    def test_every_kind(self) -> None:
        """From TOML, with all its settings; the examples leave none out."""
        self.assertEqual(set(EXAMPLES), set(OURS))
        for name, (toml, settings) in EXAMPLES.items():
            fault = parse_scenario(f'[[fault]]\ndo = "{name}"\n{toml}\n').faults[0]
            self.assertEqual(dict(fault.settings), settings, name)
            self.assertEqual(set(settings), set(OURS[name].settings), name)

    def test_every_wrong_setting(self) -> None:
        """Each is told with its place, and what is expected instead."""
        for name, (_, good) in EXAMPLES.items():
            for setting in OURS[name].settings:
                for wrong in WRONG:
                    table = {**{key: value for key, value in good.items() if value is not None}, "do": name,
                             setting: wrong}
                    told = problems(table)
                    self.assertEqual(len(told), 1, (name, setting, wrong, told))
                    self.assertTrue(told[0].startswith(f"fault[3].{setting}: "), told)
                    self.assertIn("expected", told[0])

    def test_missing_and_unknown(self) -> None:
        for name, kind in KINDS.items():
            required = [setting for setting, (_, default) in kind.settings.items() if default is REQUIRED]
            told = [one for one in problems({"do": name}) if one.endswith("is missing")]
            self.assertEqual(told, [f"fault[3].{setting}: is missing" for setting in required])
            self.assertIn("fault[3].ocurrence: unknown; did you mean occurrence?",
                          problems({"do": name, "ocurrence": 1}))

    def test_settings_that_do_not_fit_together(self) -> None:
        for table, told in (
                ({"do": "early"}, "next: either a command to carry out or, as text, a reply is expected"),
                ({"do": "early", "next": "STAT\r\nQUIT"}, "next: one line is expected"),
                ({"do": "misheard", "as": " "}, "as: a command is expected, in one line"),
                ({"do": "split", "sizes": []}, "sizes: at least one is expected"),
                ({"do": "endless", "seconds": 0}, "seconds: more than 0 are expected"),
                ({"do": "replace", "find": ""}, "find: at least one octet is expected"),
                ({"do": "sizes"}, "add: one of add, factor, exact and way is expected"),
                ({"do": "sizes", "exact": 1, "way": "lf"}, "way: not together with exact"),
                ({"do": "count"}, "add: one of add and exact is expected"),
                ({"do": "listing"}, "order: at least one setting is expected")):
            self.assertEqual(problems(table), [f"fault[3].{told}"])

    def test_no_setting_has_the_name_of_a_when(self) -> None:
        """`octets` may be a setting of a kind, `times` may not: it says how often the fault acts."""
        for kind in OURS.values():
            self.assertFalse(set(kind.settings) & {*WHEN, "do"}, kind.name)

    def test_when(self) -> None:
        fault = read_fault({"do": "close", "command": "retr 2", "session": [1, 3], "occurrence": 2,
                            "user": "mrose", "protocol": "pop3s", "probability": 0.5, "times": 3,
                            "name": "x"})
        self.assertEqual((fault.command, fault.session, fault.occurrence, fault.user, fault.protocol,
                          fault.probability, fault.times, fault.label),
                         ("RETR 2", (1, 3), (2,), "mrose", "pop3s", 0.5, 3, "x"))
        for setting, wrong in (("command", 1), ("session", 0), ("occurrence", [0]), ("user", 1), ("times", 0),
                               ("probability", 1.5), ("probability", True), ("name", None)):
            self.assertTrue(problems({"do": "close", setting: wrong})[0].startswith(f"fault[3].{setting}: "))
