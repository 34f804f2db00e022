"""MIT's own side of a sendauth exchange, in a process of its own: libkrb5 by ctypes.

    python -m tests.kerberos_peer '{"do": "sendauth", "port": 1109, "server": "pop/localhost", ...}'

It answers one line of JSON. Nothing of mailgate is imported: this is the independent peer.

`sendauth`   krb5_sendauth to 127.0.0.1:port, as historic KPOP clients do, then the lines of `say` one
             by one; answers {"code", "text", "lines": [greeting, replies ...]}.
`request`    krb5_mk_req_extended: answers {"request": hex} for octets to be sent by hand.
`recvauth`   krb5_recvauth with a keytab on the descriptor `fd`; answers {"code", "text"}.
`shift` is added to the clock of the library.
"""

from __future__ import annotations

import ctypes
import json
import socket
import sys
import time
from ctypes import byref, c_char_p, c_int, c_int32, c_uint, c_void_p
from typing import Any

KRB5 = ctypes.CDLL("libkrb5.so.3")
KRB5.krb5_get_error_message.restype = c_void_p
MUTUAL = 0x20000000


class Data(ctypes.Structure):
    _fields_ = (("magic", c_int32), ("length", c_uint), ("data", c_void_p))


class Peer:
    """One context of the library."""

    def __init__(self, shift: float = 0) -> None:
        self.context = c_void_p()
        assert KRB5.krb5_init_context(byref(self.context)) == 0
        if shift:
            self.check(KRB5.krb5_set_real_time(self.context, c_int32(int(time.time() + shift)), c_int32(0)))

    def check(self, code: int) -> None:
        assert code == 0, (code, self.text(code))

    def text(self, code: int) -> str:
        return (ctypes.string_at(KRB5.krb5_get_error_message(self.context, c_int32(code))) or b"").decode()

    def principal(self, name: str) -> c_void_p:
        made = c_void_p()
        self.check(KRB5.krb5_parse_name(self.context, name.encode(), byref(made)))
        return made

    def cache(self) -> tuple[c_void_p, c_void_p]:
        """Return the default credential cache and whose it is."""
        cache, owner = c_void_p(), c_void_p()
        self.check(KRB5.krb5_cc_default(self.context, byref(cache)))
        self.check(KRB5.krb5_cc_get_principal(self.context, cache, byref(owner)))
        return cache, owner

    def sendauth(self, port: int, server: str, say: list[str], *, version: str, mutual: bool) -> Any:
        cache, owner = self.cache()
        authentication = c_void_p()
        connection = socket.create_connection(("127.0.0.1", port), 30)
        connection.settimeout(None)
        descriptor = c_int(connection.fileno())
        code = KRB5.krb5_sendauth(
            self.context, byref(authentication), byref(descriptor), c_char_p(version.encode()), owner,
            self.principal(server), c_int32(MUTUAL if mutual else 0), None, None, cache, None, None, None)
        lines = []
        if code == 0:
            with connection.makefile("rwb") as stream:
                lines.append(stream.readline())
                for line in say:
                    stream.write(line.encode() + b"\r\n")
                    stream.flush()
                    lines.append(stream.readline())
        return {"code": code, "text": self.text(code) if code else "",
                "lines": [line.decode("latin-1").rstrip("\r\n") for line in lines]}

    def request(self, server: str, *, mutual: bool) -> Any:
        cache, owner = self.cache()

        class Times(ctypes.Structure):
            _fields_ = tuple((name, c_int32) for name in ("auth", "start", "end", "renew"))

        class Keyblock(ctypes.Structure):
            _fields_ = (("magic", c_int32), ("enctype", c_int32), ("length", c_uint), ("contents", c_void_p))

        class Credentials(ctypes.Structure):
            _fields_ = (("magic", c_int32), ("client", c_void_p), ("server", c_void_p), ("key", Keyblock),
                        ("times", Times), ("is_skey", c_uint), ("flags", c_int32), ("addresses", c_void_p),
                        ("ticket", Data), ("second_ticket", Data), ("authdata", c_void_p))

        wanted = Credentials(client=owner, server=self.principal(server))
        found, made, authentication = ctypes.POINTER(Credentials)(), Data(), c_void_p()
        self.check(KRB5.krb5_get_credentials(self.context, 0, cache, byref(wanted), byref(found)))
        self.check(KRB5.krb5_mk_req_extended(
            self.context, byref(authentication), c_int32(MUTUAL if mutual else 0), None, found, byref(made)))
        return {"request": ctypes.string_at(made.data, made.length).hex()}

    def recvauth(self, fd: int, server: str, keytab: str, version: str) -> Any:
        opened, authentication, ticket = c_void_p(), c_void_p(), c_void_p()
        self.check(KRB5.krb5_kt_resolve(self.context, keytab.encode(), byref(opened)))
        code = KRB5.krb5_recvauth(
            self.context, byref(authentication), byref(c_int(fd)), c_char_p(version.encode()),
            self.principal(server), c_int32(0), opened, byref(ticket))
        return {"code": code, "text": self.text(code) if code else ""}


def main() -> None:
    """Do what the argument asks."""
    asked = json.loads(sys.argv[1])
    peer = Peer(asked.pop("shift", 0))
    print(json.dumps(getattr(peer, asked.pop("do"))(**asked)))


if __name__ == "__main__":
    main()
