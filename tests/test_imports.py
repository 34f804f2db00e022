"""The layers: every import in `mailgate/` is read and held to one table. No cycles, no early reactor.

Imports inside functions and under TYPE_CHECKING count as well: a layer that needs another only
there needs it all the same.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
ROOMS = ("pop3", "pop2", "pop4", "lmtp", "imap", "kpop")    # the protocol rooms: conversations without I/O

BASE = {"base"}
ZOPE_TWISTED = {"zope", "twisted"}


class Rule(NamedTuple):
    """What a layer may import: other layers (itself always), and packages from outside."""

    layers: set[str]
    packages: set[str] = set()


RULES = {
    "base": Rule(set()),
    "interfaces": Rule(BASE, {"zope", "twisted.internet.defer"}),
    "wire": Rule(BASE),
    "exchanges": Rule(BASE | {"wire"}),
    **{room: Rule(BASE | {"wire", "exchanges"}) for room in ROOMS},
    "stores": Rule(BASE | {"interfaces", "wire", "formats"}, ZOPE_TWISTED | {"psycopg", "obstore"}),
    "upstream": Rule(BASE | {"interfaces", "wire", "clients"}, ZOPE_TWISTED),
    "clients": Rule(BASE | {"wire", "exchanges", *ROOMS}),
    "auth": Rule(BASE | {"interfaces", "wire", "exchanges"},
                 ZOPE_TWISTED | {"passlib", "argon2", "gssapi", "joserfc", "treq", "cffi", "ldap", "OpenSSL",
                                 "service_identity"}),
    "routing": Rule(BASE | {"interfaces", "wire", "auth"}, ZOPE_TWISTED),
    "net": Rule(BASE | {"interfaces", "wire", "exchanges", "auth", "routing", "clients", *ROOMS},
                ZOPE_TWISTED | {"OpenSSL", "cryptography"}),
    "config": Rule(BASE | {"formats"}, {"attrs", "cattrs", "tomli", "twisted.internet.endpoints"}),
    "formats": Rule(BASE | {"wire"}),
    "importing": Rule(BASE | {"interfaces", "wire", "formats"}, ZOPE_TWISTED),
    "conformance": Rule(BASE),      # not even wire: it shares no framing with what it judges
    # what a browser shows of a service: it watches connections, whatever they speak
    "console": Rule(BASE | {"interfaces", "wire", "net", "clients", *ROOMS}, ZOPE_TWISTED | {"wsproto"}),
    "trouble": Rule(BASE | {"wire"}, {"tomli"}),      # what can go wrong on command: no socket, no Twisted
}
TOP = ("tap", "service", "workers", "compat", "assembly", "cli", "demo")      # these join all the others
# the harness joins all, as a service does
RULES["testing"] = Rule({*RULES, "top"}, ZOPE_TWISTED | {"cryptography", "OpenSSL", "pytest", "wsproto"})
ANYTHING = Rule({*RULES, "top"}, ZOPE_TWISTED | {"click", "OpenSSL", "attrs"})


class Import(NamedTuple):
    """One import statement's one name."""

    module: str         # who imports
    line: int
    target: str         # what: a dotted name
    in_function: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def layer_of(module: str) -> str:
    """Return the layer of one of our modules."""
    parts = module.split(".")[1:]
    if not parts or parts[0] in ("errors", "model", "names", "principals", "directories"):
        return "base"
    if parts[0] == "auth" and parts[1:] and parts[1] in ("sasl", "apop"):
        return "exchanges"
    if parts[0] in ROOMS and parts[1:] == ["client"]:
        return "clients"
    if parts[:2] == ["testing", "trouble"]:
        return "trouble"
    if parts[0] in TOP:
        return "top"
    return parts[0]


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "mailgate").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, path: Path, ours: dict[str, Path]) -> Iterator[Import]:
    """Read the imports of a file; `from package import module` names the module."""
    def walk(node: ast.AST, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(module, child.lineno, name.name, inside)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}:{child.lineno}: our imports are absolute"
                source = child.module or ""
                for name in child.names:
                    whole = f"{source}.{name.name}"
                    deeper = whole in ours or not source.startswith("mailgate")
                    yield Import(module, child.lineno, whole if deeper else source, inside)
            else:
                yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def all_imports() -> list[Import]:
    """Return every import of every module."""
    ours = modules()
    return [found for module, path in ours.items() for found in imports_of(module, path, ours)]


class LayerTests(SynchronousTestCase):
    def test_every_module_has_a_layer(self) -> None:
        """A new package takes a place in the table before it takes an import."""
        strange = [module for module in modules() if layer_of(module) not in {*RULES, "top"}]
        self.assertEqual(strange, [])

    def test_layers_import_what_they_may(self) -> None:
        """Among ourselves: the table, and nothing beside it."""
        wrong = []
        for found in all_imports():
            if found.target.split(".")[0] != "mailgate":
                continue
            own, other = layer_of(found.module), layer_of(found.target)
            if other != own and other not in RULES.get(own, ANYTHING).layers:
                wrong.append(f"{found} ({own} may not import {other})")
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_packages_from_outside(self) -> None:
        """The protocol rooms know no Twisted; each other layer uses only what the table grants it."""
        wrong = []
        for found in all_imports():
            top = found.target.split(".")[0]
            if top == "mailgate" or top in sys.stdlib_module_names:
                continue
            own = layer_of(found.module)
            granted = RULES.get(own, ANYTHING).packages
            if not any(found.target == name or found.target.startswith(name + ".") for name in granted):
                wrong.append(f"{found} (not granted to {own})")
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_no_cycles(self) -> None:
        """No module imports itself by a detour."""
        ours = modules()
        graph: dict[str, set[str]] = {module: set() for module in ours}
        for found in all_imports():
            if found.target in ours and found.target != found.module:
                graph[found.module].add(found.target)
        done: set[str] = set()
        cycles: list[str] = []

        def visit(module: str, way: list[str]) -> None:
            if module in way:
                cycles.append(" -> ".join([*way[way.index(module):], module]))
            elif module not in done:
                for target in sorted(graph[module]):
                    visit(target, [*way, module])
                done.add(module)

        for module in graph:
            visit(module, [])
        self.assertEqual(cycles, [], "\n".join(cycles))

    def test_no_early_reactor(self) -> None:
        """Nobody imports the reactor at module level: it is a parameter, whose default is imported late."""
        early = [str(found) for found in all_imports()
                 if found.target.startswith("twisted.internet.reactor") and not found.in_function]
        self.assertEqual(early, [])


class LoadingTests(SynchronousTestCase):
    """What imports do when they are carried out, in a process of its own."""

    def loads(self, names: list[str]) -> set[str]:
        """Import modules in a fresh interpreter; return all that this loaded."""
        code = "import sys\nfor name in sys.argv[1:]:\n    __import__(name)\nprint(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, cwd=ROOT,
                             check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        return set(run.stdout.split())

    def test_rooms_load_without_twisted(self) -> None:
        """The protocol rooms, the wire and the exchanges load nothing of Twisted."""
        names = [module for module in modules()
                 if layer_of(module) in ("base", "wire", "exchanges", "clients", *ROOMS)]
        self.assertGreater(len(names), 10)
        loaded = self.loads([name for name in names if name != "mailgate.interfaces"])
        self.assertEqual(sorted(name for name in loaded if name.split(".")[0] in ("twisted", "zope")), [])

    def test_nothing_installs_a_reactor(self) -> None:
        """Every module can be loaded before a reactor is chosen.

        Not so those that stand in for `twisted.mail.pop3`, which cannot be loaded without one.
        """
        names = [module for module in modules()
                 if not module.endswith("__main__") and not module.startswith("mailgate.compat")]
        self.assertFalse("twisted.internet.reactor" in self.loads(names))

    def test_plugin_is_light(self) -> None:
        """`twistd --help` loads the plugin file: it brings in none of our rooms, stores or databases."""
        loaded = self.loads(["twisted.plugins.mailgate_plugin"])
        heavy = [name for name in loaded
                 if name.startswith(("mailgate.", "sqlite3", "OpenSSL", "passlib", "argon2"))]
        self.assertEqual(sorted(heavy), [])
