"""A server and the process that it is in: what it loads, forks, and the process's end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent.parent
PATIENCE_SECONDS = 120      # for what takes one: the machine may be busy

SESSION = """
    import poplib, sys
    from mailgate.testing import Server
    with Server() as server:
        server.account("mrose", "secret")
        client = poplib.POP3(*server.pop3)
        client.stls(server.ssl_context())
        client.user("mrose")
        client.pass_("secret")
        client.quit()
        server.session
    """


def run(script: str, *arguments: str) -> str:
    """Run a script in a Python of its own; return what it wrote. It must end well, and by itself."""
    done = subprocess.run([sys.executable, *arguments, "-c", textwrap.dedent(script)], cwd=ROOT, text=True,
                          capture_output=True, timeout=PATIENCE_SECONDS)
    if done.returncode:
        raise AssertionError(f"exit code {done.returncode}\n{done.stderr}")
    return done.stdout + done.stderr


class LoadingTests(SynchronousTestCase):
    """What takes time to load is loaded by who needs it, and nobody's reactor is installed."""

    def test_no_reactor(self) -> None:
        """A whole session with STLS leaves the choice of the global reactor to the program."""
        told = run(SESSION + "\n    print([one for one in sys.modules if one == 'twisted.internet.reactor'])")
        self.assertEqual(told, "[]\n")

    def test_few_modules(self) -> None:
        """No hashes, no PAM, no directory, no tokens, no pages: no more than the session needs."""
        heavy = ("passlib", "argon2", "joserfc", "treq", "ldap", "cffi.api", "sqlite3", "psycopg",
                 "mailgate.auth.pam", "mailgate.auth.oauth", "mailgate.testing.memory", "twisted.web",
                 "mailgate.testing.console", "mailgate.testing.api", "mailgate.testing.scripted.playing",
                 "hypothesis", "pytest")
        told = run(SESSION + f"\n    print([one for one in sys.modules if one.startswith({heavy})])")
        self.assertEqual(told, "[]\n")

    def test_plugin_is_light(self) -> None:
        """The pytest plugin, which every run of pytest loads, brings no Twisted and no server."""
        told = run("""
            import pytest, sys
            before = set(sys.modules)
            import mailgate.testing.pytest_plugin
            print(sorted(set(sys.modules) - before))
            """)
        self.assertEqual(told, "['mailgate', 'mailgate.testing', 'mailgate.testing.pytest_plugin',"
                               " 'mailgate.testing.running']\n")

    def test_names(self) -> None:
        """Each public name can be had, and is loaded no sooner; certificates come without the rest."""
        told = run("""
            import sys
            import mailgate.testing.certificates
            print([one for one in sys.modules if one.startswith("twisted")])
            import mailgate.testing as testing
            print(all(getattr(testing, name).__name__ == name for name in testing.__all__),
                  set(testing.__all__) <= set(dir(testing)), hasattr(testing, "Sever"))
            """)
        self.assertEqual(told, "[]\nTrue True False\n")


class EndTests(SynchronousTestCase):
    """A process ends when its program does."""

    def test_not_stopped(self) -> None:
        """A server that nobody stops, with a client that it keeps waiting, holds no process and no folder."""
        told = run("""
            import poplib
            from mailgate.testing import Server
            server = Server().start()
            server.account("mrose", "secret")
            server.fault("stall", command="USER")
            client = poplib.POP3(*server.pop3)
            client._putcmd("USER mrose")
            assert server.sessions[0].verbs == ["USER"]
            print(server.ca_file)
            """)
        self.assertFalse(Path(told.strip()).parent.exists())

    def test_from_threads_until_the_end(self) -> None:
        """Servers that are started and stopped in threads of their own, all at once."""
        told = run("""
            import os, poplib, threading
            from mailgate.testing import Server
            def use():
                with Server() as server:
                    server.account("mrose", "secret")
                    poplib.POP3(*server.pop3).quit()
                    assert server.session.verbs == ["QUIT"]
                    os.write(1, b"done\\n")      # in one piece
            threads = [threading.Thread(target=use) for _ in range(5)]
            for one in threads: one.start()
            """)
        self.assertEqual(told, "done\n" * 5)


class ForkTests(SynchronousTestCase):
    """A test that forks: the server stays with the parent, and the child may have its own."""

    def test_fork(self) -> None:
        """The child's end leaves server and files to the parent; the child's own server is another."""
        told = run("""
            import os, pathlib, poplib, sys
            from mailgate.testing import Server
            with Server() as server:
                server.account("mrose", "secret")
                child = os.fork()
                if not child:
                    try:
                        server.sessions
                    except RuntimeError as fault:
                        print("fork" in str(fault))
                    with Server() as own:
                        own.account("ada", "secret")
                        poplib.POP3(*own.pop3).quit()
                        print(own.pop3 != server.pop3, own.session.verbs)
                    server.stop()
                    sys.exit(7)
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                print(pathlib.Path(server.ca_file).exists())
                poplib.POP3(*server.pop3).quit()
                print(server.session.verbs)
            """, "-u")
        self.assertEqual(told, "True\nTrue ['QUIT']\n7\nTrue\n['QUIT']\n")

    def test_child_holds_no_connection(self) -> None:
        """While a child lives, connections are torn in time: it holds no copy of the server's sockets."""
        told = run("""
            import os, poplib, socket
            from mailgate.testing import Server
            with Server() as server:
                client = socket.create_connection(server.pop3)
                client.recv(100)
                server.fault("reset", command="NOOP")
                ours, childs = os.pipe()
                child = os.fork()
                if not child:
                    client.close()
                    os.close(childs)
                    os.read(ours, 1)
                    os._exit(0)
                client.sendall(b"NOOP\\r\\n")
                client.settimeout(60)
                try:
                    print(client.recv(100))
                except ConnectionResetError:
                    print("torn")
                address = server.pop3
            try:
                socket.create_connection(address)
            except ConnectionRefusedError:
                print("refused")
            os.close(childs)
            os.waitpid(child, 0)
            """)
        self.assertEqual(told, "torn\nrefused\n")
