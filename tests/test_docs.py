"""The manual says what is so: it builds, names what there is, and its examples are carried out."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import click
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from bench.compare import WORK
from mailgate import demo
from mailgate.assembly.auth import Doors
from mailgate.assembly.listeners import make_factory
from mailgate.auth.hashing import Inline
from mailgate.auth.schemes import SCHEMES
from mailgate.cli.commands import mailgate
from mailgate.config import Config
from mailgate.config.values import BadValue, Location
from mailgate.formats.uniqueids import Format
from mailgate.lmtp.commands import RULES as LMTP_RULES
from mailgate.pop3.commands import RULES as POP3_RULES
from mailgate.stores.memory import MemoryStore
from mailgate.testing import Server
from mailgate.testing.transcript import AS_WRITTEN, Stage, converse
from tests import console
from tests.needs import needs, unavailable
from tests.ports import held_port
from tests.running import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.rst"
TEXTS = [README, *sorted(DOCS.rglob("*.rst")), *sorted(DOCS.rglob("*.md")), *sorted(DOCS.glob("changes/*"))]
_TABLE = re.compile(r"^\.\. list-table:: (.*)\n((?:   .*\n|\n)+)", re.MULTILINE)
FILES = ("toml", "service", "socket", "db", "md", "conf")       # endings of files called mailgate
LINES = "mailgate.login"    # what lines of refused logins are marked with
FOLDERS = ("bench", "docs", "etc", "mailgate", "tests", "twisted")      # of the repository


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


class BuildTests(SynchronousTestCase):
    def test_manual(self) -> None:
        """Sphinx builds every page, and has nothing to complain of."""
        try:
            from sphinx.cmd.build import build_main
        except ImportError:
            unavailable("missing: sphinx; install with: pip install -e '.[docs]'")
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(said), \
                contextlib.redirect_stdout(said):
            code = build_main(["-q", "-W", "--keep-going", "-b", "html", str(DOCS), folder])
        self.assertEqual((code, said.getvalue()), (0, ""))

    def test_readme(self) -> None:
        """The README, which package indexes show, is sound for docutils alone."""
        try:
            from docutils.core import publish_string
        except ImportError:
            unavailable("missing: docutils; install with: pip install -e '.[docs]'")
        said = io.StringIO()
        publish_string(README.read_text(encoding="utf-8"), settings_overrides={
            "warning_stream": said, "report_level": 1, "file_insertion_enabled": False})
        self.assertEqual(said.getvalue(), "")


# Names ------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One setting as the manual's tables tell it."""

    setting: str
    default: str
    range: str
    meaning: str


def setting_tables() -> dict[str, list[Row]]:
    """Return the rows of the operator's tables of settings, by section."""
    found: dict[str, list[Row]] = {}
    for title, body in _TABLE.findall(read("operating.rst")):
        cells = [cell.split("\n     - ") for cell in body.split("\n   * - ")[1:]]
        named = re.match(r"``\[+(\w+)\]+``", title)
        section = named[1] if named else ""
        found[section] = [Row(*(" ".join(cell.split()) for cell in row)) for row in cells[1:]]
    return found


def settings(kind: type[Any]) -> Iterator[Any]:
    return (field for field in attrs.fields(kind) if "reader" in field.metadata)


def sections() -> dict[str, type[Any]]:
    """Return the section classes by name; the root's is empty."""
    kinds = {"": Config}
    for field in attrs.fields(Config):
        kind = field.metadata.get("table") or field.metadata.get("tables")
        if kind is not None:
            kinds[field.name] = kind
    return kinds


def shown_default(field: Any) -> str:
    if field.metadata["required"]:
        return "required"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if type(value) is tuple:        # not one with names
        return f"``{list(value)}``".replace("'", '"')
    if isinstance(value, str) and value:
        return f'``"{value}"``'
    if isinstance(value, Format):
        return f'``"{value.name}"``'
    return f'``"{value.scheme}:{value.path}"``' if isinstance(value, Location) else "the kind"


class SettingTests(SynchronousTestCase):
    def test_every_setting(self) -> None:
        """The tables name the settings of each section, in its order, and no other, with their defaults."""
        tables = setting_tables()
        for name, kind in sections().items():
            wanted = [(f"``{field.name}``", shown_default(field)) for field in settings(kind)]
            self.assertEqual([(row.setting, row.default) for row in tables[name]], wanted, f"[{name}]")

    def test_ranges(self) -> None:
        """What a table says of a range is what the configuration's reader takes, and not one more."""
        checked = 0
        for name, kind in sections().items():
            for row, field in zip(setting_tables()[name], settings(kind), strict=True):
                bounds = re.match(r"(\d+) to (\d+)", row.range)
                if bounds is None:
                    continue
                checked += 1
                least, most = int(bounds[1]), int(bounds[2])
                read_value = field.metadata["reader"]
                self.assertEqual((read_value(least), read_value(most)), (least, most), field.name)
                for beyond in (least - 1, most + 1):
                    self.assertRaises(BadValue, read_value, beyond)
        self.assertGreater(checked, 20)


class NameTests(SynchronousTestCase):
    def test_every_command(self) -> None:
        """Every subcommand is in the manual."""
        text = read("operating.rst") + read("delivering.rst") + "".join(
            page.read_text(encoding="utf-8") for page in sorted((DOCS / "testing").glob("*.rst")))
        missing = [words for words in commands(mailgate) if f"{words}" not in text]
        self.assertEqual(missing, [])

    def test_readme_commands(self) -> None:
        """The commands of the README's blocks are there: make's targets, subcommands with their options."""
        lines = [line.strip() for block in literal_blocks(README.read_text(encoding="utf-8"))
                 for line in block.splitlines()]
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        made = [line.split()[1] for line in lines if line.startswith("make ")]
        self.assertTrue(set(made) <= set(targets), made)
        self.assertTrue({"run", "test"} <= set(made), made)
        typed = [line.split(" < ")[0].split()[1:] for line in lines if line.startswith("mailgate ")]
        self.assertGreater(len(typed), 3)
        for words in typed:
            group, context = follow(words)
            self.assertIsInstance(context, click.Context, group)
        self.assertIn("twistd -n mailgate -c /srv/mailgate/mailgate.toml", lines)

    def test_every_verb(self) -> None:
        """Every verb of the POP3 and LMTP command tables is named in the protocol notes."""
        words = set(re.findall(r"[*A-Z0-9]{3,}", read("protocols.rst")))
        missing = [verb.decode() for verb in (*POP3_RULES, *LMTP_RULES) if verb.decode() not in words]
        self.assertEqual(missing, [])

    def test_every_scheme(self) -> None:
        """Every password scheme is in the operator's table."""
        words = set(re.findall(r"[A-Z0-9-]+", read("operating.rst")))
        self.assertEqual(sorted(set(SCHEMES) - words), [])

    def test_every_figure(self) -> None:
        """The page of figures has a row for all that the bench measures."""
        titles = [work.title for work in WORK]
        self.assertGreater(len(titles), 5)
        page = read("benchmarks/compare.inc")
        self.assertEqual([title for title in titles if f"* - {title}\n" not in page], [])

    def test_paths(self) -> None:
        """No text names a file of the repository that is not there."""
        wrong = []
        for text in TEXTS:
            for path in named_paths(text.read_text(encoding="utf-8")):
                places = (ROOT, ROOT / "mailgate", text.parent)
                if not any(list(place.glob(path)) for place in places):
                    wrong.append(f"{text.relative_to(ROOT)}: {path}")
        self.assertEqual(wrong, [])

    def test_modules(self) -> None:
        """No text names a module, class or function of ours that is not there."""
        from twisted.python.reflect import namedAny

        wrong = []
        for text in TEXTS:
            for name in set(re.findall(r"\bmailgate(?:\.[A-Za-z_]\w*)+", text.read_text(encoding="utf-8"))):
                known = name == LINES or name.rpartition(".")[2] in FILES
                # in tests that are shown, `mailgate` is the fixture
                shown = "testing" in text.parts or text.name == "README.rst"
                if known or (shown and hasattr(Server, name.split(".")[1])):
                    continue
                try:
                    namedAny(name)
                except (AttributeError, ImportError):
                    wrong.append(f"{text.relative_to(ROOT)}: {name}")
        self.assertEqual(wrong, [])


def commands(group: Any, before: str = "") -> Iterator[str]:
    """Give every command below a group as it is typed, without `mailgate`."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def follow(words: list[str]) -> tuple[str, click.Context]:
    """Parse a command line down to its last command, carrying nothing out. Raises: click.UsageError."""
    command: Any = mailgate
    context = None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        if not isinstance(command, click.Group):
            return command.name, context
        protected = getattr(context, "_protected_args", None) or context.protected_args    # click 8.2, 8.1
        rest = [*protected, *context.args]
        command, words = command.get_command(context, rest[0]), rest[1:]


def literal_blocks(text: str) -> list[str]:
    return re.findall(r"::\n\n((?:    .*\n|\n)+)", text)


def named_paths(text: str) -> set[str]:
    """Return what looks like a path of the repository, in literals."""
    found = set()
    for literal in re.findall(r"``([^`]+)``|`([^`]+)`", text):
        path = (literal[0] or literal[1]).strip()
        path = path.partition("{")[0] if "{" in path and path.endswith("}") else path
        ours = "/" in path and path.split("/")[0] in FOLDERS and re.fullmatch(r"[\w./*-]+", path)
        if ours or re.fullmatch(r"[a-z0-9_]+/[\w/]+\.py", path):
            found.add(path)
    return found


# Examples -----------------------------------------------------------------------------------------


class ConsoleTests(SynchronousTestCase):
    """What carries the examples out notices when they are wrong."""

    PAGE = """\
.. code-block:: python
   :caption: hello.py

   print("hello  world")

.. code-block:: console

   $ python3 hello.py
   hello ...
   $ cat <<END
   > one
   >
   > three
   > END
   ...
   three
   $ echo other
   this
   $ false
   $ true
   $ false
   $ echo $?
   1
"""

    def test_faults(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        shell = console.Shell(folder, console.environment(folder))
        self.addCleanup(shell.close)
        faults = [step.command.strip() for step, fault in console.perform(self.PAGE, shell, {}) if fault]
        self.assertEqual(faults, ["echo other", "false"])

    def test_departures(self) -> None:
        """`...` ends with its line, unless it is the line."""
        self.assertEqual(console.departures("a ... c\n", "a b c\n"), "")
        self.assertNotEqual(console.departures("a ...\n", "a b\nc\n"), "")
        self.assertEqual(console.departures("a\n...\n", "a\nb\nc\n"), "")
        self.assertNotEqual(console.departures("", "a\n"), "")


class ExampleTests(SynchronousTestCase):
    def perform(self, page: str) -> None:
        """Carry out a page in a folder of its own, on free ports."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        ports = {told: str(held_port(self)) for told in ("1109", "1110", "1995", "2424", "8888")}
        shell = console.Shell(folder, console.environment(folder))
        self.addCleanup(shell.close)
        done = list(console.perform(read(page), shell, ports))
        self.assertGreater(len(done), 3)
        wrong = [f"{page}:{step.line}: $ {step.command}{fault}" for step, fault in done if fault]
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_operating(self) -> None:
        """Every command of the operator's page prints what the page says."""
        needs("curl", "fetchmail", "openssl", "sqlite3")
        self.perform("operating.rst")

    def test_delivering(self) -> None:
        """So do those of the page on deliveries."""
        self.perform("delivering.rst")

    def test_moving(self) -> None:
        """And of the page on other servers' mail."""
        self.perform("moving.rst")

    def test_kerberos(self) -> None:
        """From an empty KDC to fetchmail's login."""
        needs("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "fetchmail", "unshare")
        self.perform("kerberos.rst")

    def test_embedding(self) -> None:
        """The programs of the page for developers run."""
        needs("curl")
        self.perform("embedding.rst")

    def test_readme_conversation(self) -> None:
        """The README's transcript is what the demonstration says, word by word."""
        readme = README.read_text(encoding="utf-8")
        script = next(block for block in literal_blocks(readme) if "C: USER" in block)
        folder = Path(self.mktemp())
        config, _ = demo.setting(folder)

        def set_stage(clock: Clock) -> Stage:
            store = MemoryStore(clock=clock)
            self.successResultOf(store.start())
            self.successResultOf(Deferred.fromCoroutine(demo.fill(store, config)))
            doors = Doors(config, store, Inline(), clock)
            return Stage(make_factory(config, config.listen[0], store, doors, clock))

        converse(set_stage, script, plays=[AS_WRITTEN])
