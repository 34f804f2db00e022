"""The samples in `etc/`: what they say is so."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import click
from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli.delivering import deliver
from mailgate.config import Config, load, parse
from tests.running import ROOT

ETC = ROOT / "etc"
SETTING = re.compile(r"^(?:# )?(\w+) = (.+?)(?: {2,}#.*)?$", re.MULTILINE)


def sections() -> dict[str, Any]:
    """Return every section class by the name of its table."""
    found = {"": Config}
    for field in attrs.fields(Config):
        kind = field.metadata.get("table") or field.metadata.get("tables")
        if kind:
            found[field.name] = kind
    return found


class ConfigurationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = (ETC / "mailgate.toml").read_text()

    def test_loads(self) -> None:
        config = load(ETC / "mailgate.toml")
        self.assertEqual([one.protocol for one in config.listen], ["pop3", "lmtp"])

    def test_every_setting_is_there(self) -> None:
        """With its default, where it has one, so that nobody is told what is not so."""
        shown: dict[str, set[str]] = {}
        for name, value in SETTING.findall(self.text):
            shown.setdefault(name, set()).add(value)
        for table, kind in sections().items():
            for field in attrs.fields(kind):
                if "reader" not in field.metadata:
                    continue
                self.assertIn(field.name, shown, f"[{table}]")
                if isinstance(field.default, (bool, int, float)):
                    self.assertIn(_toml(field.default), shown[field.name], f"[{table}] {field.name}")

    def test_uncommented_it_is_good(self) -> None:
        """What is commented out can be put in as it stands."""
        text = re.sub(r"^# (\w+ = |\[+\w\S*\]+$)", r"\1", self.text, flags=re.MULTILINE)
        text = text.replace('endpoint = "unix:/run/mailgate/lmtp:mode=660"\n', "", 1)
        text = text.replace("retention_days = 30\n", "")     # else EXPIRE would not be NEVER
        config = parse(text.encode(), folder=Path("/etc/mailgate"))
        names = ["store", "old-users", "tokens", "asked-tokens", "pam", "directory", "directory-by-dn"]
        self.assertEqual([one.name for one in config.checkers], names)


class UnitTests(SynchronousTestCase):
    def unit(self, name: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str        # type: ignore[assignment,method-assign]
        parser.read(ETC / name)
        return parser

    def test_sockets_have_the_names_that_are_asked_for(self) -> None:
        service = (ETC / "mailgate.service").read_text()
        sockets = self.unit("mailgate.service")["Service"]["Sockets"].split()
        for name in sockets:
            socket = self.unit(name)["Socket"]
            self.assertEqual(socket["Service"], "mailgate.service")
            self.assertIn(f"name={socket['FileDescriptorName']}\"", service)
        for endpoint in re.findall(r'endpoint = "([^"]+)"', service):
            parse(f'hostname = "a"\n[[listen]]\nprotocol = "pop3"\nendpoint = "{endpoint}"\n'.encode(),
                  folder=ETC)

    def test_systemd_takes_them(self) -> None:
        """systemd's own judgement, where there is one; the program is one that is there."""
        if shutil.which("systemd-analyze") is None:
            return      # no systemd, nobody to ask; it is no package that a test could want
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        for path in [*ETC.glob("*.service"), *ETC.glob("*.socket")]:
            text = path.read_text().replace("/opt/mailgate/bin/twistd", "/bin/true")
            (folder / path.name).write_text(text.replace("User=mailgate", "User=root").replace(
                "Group=mailgate", "Group=root").replace("SocketGroup=postfix", "SocketGroup=root"))
        ran = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(folder.iterdir())],
                             capture_output=True, text=True, check=False)
        told = [line for line in ran.stderr.splitlines() if "mailgate" in line]
        self.assertEqual(told, [])


class SnippetTests(SynchronousTestCase):
    def test_deliver_is_called_as_it_is(self) -> None:
        """Every call of `mailgate deliver` in the snippets is one that the command takes."""
        calls = []
        for path in ETC.glob("*.md"):
            text = path.read_text().replace("\\\n", " ")
            calls += re.findall(r"mailgate -c /etc/mailgate/mailgate\.toml +deliver ([^\n]+)", text)
        self.assertEqual(len(calls), 4)
        for call in calls:
            arguments = shlex.split(call.rstrip('"') if call.count('"') % 2 else call)
            context = deliver.make_context("deliver", arguments)
            self.assertIsInstance(context, click.Context)
            self.assertEqual(len(context.params["recipients"]), 1)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
