"""What all measured servers have in common, and those that serve Maildirs: the same mail for every one."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import corpus
from bench.fill import PASSWORD
from bench.processes import SERVER_CORE, Tree, free_port, pin, wait_for


class Server:
    """A server in a folder of its own: fill it, then start it. `core`: the one it is bound to, if any."""

    name = ""

    def __init__(self, folder: Path, core: int | None = SERVER_CORE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.core = core
        self.pop3, self.lmtp = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command that runs it in the foreground."""
        raise NotImplementedError

    def fill(self, *wanted: dict[str, Any]) -> None:
        """Put accounts and mail into it, as `bench.fill` names them."""
        raise NotImplementedError

    def forget_indexes(self, user: str) -> None:
        """Make the next login to a maildrop find out anew what is in it."""

    def start(self) -> Tree:
        """Start it and return its processes once it serves. Raises: SystemExit, if it does not."""
        with open(self.folder / "out", "ab") as out:
            self._process = subprocess.Popen(self.command(), stdout=out, stderr=out)
        if self.core is not None:
            pin(self._process.pid, self.core)
        try:
            wait_for(self.pop3)
        except SystemExit:
            machine_said = (self.folder / "out").read_text(errors="replace")[-2000:]
            self.stop()
            raise SystemExit(f"{self.name} did not start: {machine_said}") from None
        return self.tree

    @property
    def tree(self) -> Tree:
        """Its processes."""
        assert self._process is not None, "not started"
        return Tree(self._process.pid)

    def stop(self) -> None:
        """End it as an operator does."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(120)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class MaildirServer(Server):
    """One whose mail lies in `mail/USER`, owned by a user who is not root, and its accounts in `users`."""

    def __init__(self, folder: Path, core: int | None = SERVER_CORE) -> None:
        super().__init__(folder, core)
        self.mail = folder / "mail"
        self.users = folder / "users"
        self.owner = pwd.getpwnam("mail") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())

    def fill(self, *wanted: dict[str, Any]) -> None:
        """Write the same messages as files, at the end made the owner's."""
        for one in wanted:
            arguments = {key: value for key, value in one.items() if key != "kind"}
            getattr(self, f"_{one['kind']}")(**arguments)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{self.owner.pw_uid}:{self.owner.pw_gid}", self.mail], check=True)

    def forget_indexes(self, user: str) -> None:
        """Remove what the server itself wrote into a Maildir."""
        for path in (self.mail / user).iterdir():
            if path.is_file():
                path.unlink()

    def _accounts(self, user: str, count: int) -> None:
        with open(self.users, "a", encoding="utf-8") as users:
            for number in range(count):
                users.write(f"{user % number}:{{PLAIN}}{PASSWORD}\n")
                for name in ("cur", "new", "tmp"):
                    (self.mail / (user % number) / name).mkdir(parents=True, exist_ok=True)

    def _mixed(self, user: str, users: int, messages: int) -> None:
        for number in range(users):
            self._write(user % number, corpus.mixed(number, messages))

    def _small(self, user: str, messages: int) -> None:
        self._write(user, corpus.small(0, messages))

    def _large(self, users: list[str], octets: int) -> None:
        for user in users:
            self._write(user, [b"".join(corpus.large(octets))])

    def _write(self, user: str, texts: Iterable[bytes]) -> None:
        """Write files as Dovecot itself does: LF line ends, both sizes in the name, seen once already."""
        for number, text in enumerate(texts):
            stored = text.replace(b"\r\n", b"\n")
            name = f"{1_700_000_000 + number}.M{number}P1.bench,S={len(stored)},W={len(text)}:2,"
            (self.mail / user / "cur" / name).write_bytes(stored)


class Other(MaildirServer):
    """A server that the caller knows how to start: NAME=COMMAND with {port}, {maildirs} and {users}."""

    def __init__(self, word: str, folder: Path) -> None:
        name, _, command = word.partition("=")
        super().__init__(folder / name.replace("/", "-"))
        self.name = name
        self._command = command

    def command(self) -> list[str]:
        return [part.format(port=self.pop3, maildirs=self.mail, users=self.users)
                for part in shlex.split(self._command)]
