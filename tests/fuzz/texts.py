"""Targets that read texts: names, paths, user lists, the configuration, principals, tokens, scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mailgate.auth import kept
from mailgate.auth.credentials import MAX_LOGIN_OCTETS, login_name
from mailgate.auth.invented import known_by
from mailgate.auth.passwdfile import parse as parse_passwd_file
from mailgate.auth.saslprep import prepared_octets
from mailgate.auth.schemes import check_verifier, scheme_of, verify
from mailgate.cli.telling import field, printable
from mailgate.config import parse as parse_config
from mailgate.errors import (
    AccountConflict,
    BadAddress,
    ConfigurationError,
)
from mailgate.lmtp.paths import path_key, read_forward_path, read_reverse_path
from mailgate.model import Habits
from mailgate.names import MAX_NAME_OCTETS, check_domain, check_name, fold, login_candidates, split_address
from mailgate.principals import Principal, Rules, parse_principal, parse_rule
from mailgate.testing.transcript import ScriptError, escape, parse_script
from tests.fuzz.target import Target, chance, hold, one_line, same

DEAR = 20_000   # of KiB, rounds, or whatever else a verifier counts: more of it takes too long here
ETC = Path(__file__).parent.parent.parent / "etc" / "mailgate.toml"


# Names and paths ------------------------------------------------------------------------------


def check_names(data: bytes) -> None:
    for text in (data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        same(fold(fold(text)), fold(text), "folded twice")
        candidates = login_candidates(text)
        same(candidates[0].key, fold(text))
        for key, user in candidates[1:]:
            hold(key and user and fold(text) in (f"{user}@{key}", f"{user}+{key}"), (key, user))
        habits = Habits(frozenset({"one.org"}), frozenset({"two.org"}), True,
                        frozenset({"one.org", "pop.net"}))
        known = known_by(text, "one.org", habits)
        same(known_by(fold(text), "one.org", habits), known)
        for sdps in (True, False):
            try:
                check_name(text, sdps=sdps)
            except AccountConflict as fault:
                one_line(printable(str(fault)))
                continue
            hold(not re.search(r"[\x00-\x20\x7f-\x9f/\\:\s]", text) and text not in (".", ".."), text)
            hold(len(text.encode()) <= MAX_NAME_OCTETS, "a long name")
        try:
            check_domain(text)
        except AccountConflict:
            pass
        else:
            hold(re.fullmatch(r"[A-Za-z0-9.-]+", text), text)
        try:
            local, domain = split_address(text)
        except BadAddress:
            continue
        same(f"{local}@{domain}" if domain else local, text)
    name = login_name(data)
    hold(name is None or (name.encode() == data and len(data) <= MAX_LOGIN_OCTETS), name)


def check_paths(data: bytes) -> None:
    """A path that is taken is one word of a line, and is taken again as it is."""
    for read in (read_reverse_path, read_forward_path):
        try:
            path, rest = read(data)
        except BadAddress:
            continue
        hold(not re.search(rb"[\x00-\x1f\x7f]", path), path)
        path.decode()
        same(read(b"<%b>" % path), (path, b""), "read again")
        hold(data.endswith(rest) and (not rest or rest.startswith(b" ")), rest)
        same(path_key(path_key(path)), path_key(path))


# User lists and verifiers ---------------------------------------------------------------------


def check_passwd_file(data: bytes) -> None:
    entries, problems = parse_passwd_file(data)
    lines = data.split(b"\n")
    hold(len(entries) + len(problems) <= len(lines), "more than lines")
    for key, entry in entries.items():
        same(fold(entry.name), key)
        check_name(entry.name, sdps=False)
        if entry.verifier is not None:
            check_verifier(entry.verifier)
    for number, reason in problems:
        hold(0 < number <= len(lines), number)
        one_line(printable(reason).replace("\t", ""))


def check_verifiers(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        check_verifier(text)
    except ValueError as fault:
        hold(len(str(fault)) < 200, "a long reason")
        one_line(printable(str(fault)))
        hold(not verify(text, b"x"), "matches")
    else:
        if max(map(int, re.findall(r"[0-9]{1,9}", text)), default=0) < DEAR and chance(data).random() < 0.1:
            verify(text, b"x")
    scheme_of(text)
    for family in (kept.SCRAM_SHA_1, kept.SCRAM_SHA_256, kept.CRAM_MD5):
        try:
            form: Any = family.read(data)
        except ValueError:
            continue
        hold(not isinstance(form, kept.ScramForm) or form.iterations >= kept.LEAST_SCRAM_ITERATIONS, form)
    hold(isinstance(prepared_octets(data), bytes), "a password without a form")


def check_telling(data: bytes) -> None:
    for text in (data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        one_line(field(text))
        one_line(printable(text).replace("\t", ""))
    one_line(field(data))


# The configuration ----------------------------------------------------------------------------


def check_config(data: bytes) -> None:
    try:
        parse_config(data, folder=Path("/nowhere"))
    except ConfigurationError as fault:
        hold(fault.problems, "no reason")
        for problem in fault.problems:
            one_line(printable(problem).replace("\t", ""))


# Principals -----------------------------------------------------------------------------------


def check_principals(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        principal = parse_principal(text)
    except ValueError:
        principal = Principal(("u",), "R")
    same(parse_principal(str(principal)), principal, "spelled and read")
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    rules = Rules([rule])
    for one in (principal, Principal(rule.components, rule.realm), Principal(("u", "admin"), rule.realm)):
        own = rules.own(one)
        hold(own is None or rules.permit(one, own), (rule, one, own))
        rules.permit(one, "u", "v")


# Scripts --------------------------------------------------------------------------------------


def check_script(data: bytes) -> None:
    try:
        parse_script(data.decode("utf-8", "replace"))
    except ScriptError as fault:
        hold(str(fault).startswith("line "), fault)
    step, = parse_script(f"C: {escape(data)}\\c")
    same(step, (data,), "escaped and read")


CONFIG_WORDS = (b"[[listen]]", b"[store]", b"[limits]", b"[tls]", b"[[checker]]", b"[kerberos]", b"[pop3]",
                b'"', b"'''",
                b'"""', b"=", b"[", b"{", b"}", b"]", b"\\u", b"1979-05-27T07:32:00Z", b"inf", b"nan",
                b"true", b"\\ud800",
                b"endpoint", b"protocol", b'"tcp:0:interface=127.0.0.1"', b'"unix:x"', b"9" * 5000,
                b"[" * 2000, b".", b"a.b.c")
NAME_WORDS = (b"@", b"+", b".", b"one.org", b"two.org", b"pop.net", b"x", b"\xc3\xa9", b"\xff", b"..", b"%",
              b" ")


def targets() -> dict[str, Target]:
    """Return the rows."""
    passwd = b"mrose:{PLAIN}x:1:2::/home:\n# no\nshire:!\nann:$6$abc$def\nbea:{SSHA256.b64}AAAA\n"
    scram = b"{SCRAM-SHA-256}4096,AAAAAAAAAAAAAAAAAAAAAA==,%b,%b" % ((b"A" * 43 + b"=",) * 2)
    verifiers = (scram,
                 b"{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$FkIoBaD0XmsNYayVMoYwpg$SBDwZvYkFzFXNesFi4JNMq"
                 b"XeccpmK+VL+HYEW0MQuz4", b"{BLF-CRYPT}$2y$05$" + b"a" * 53,
                 b"{SHA512-CRYPT}$6$rounds=5000$a$b",
                 b"{CRAM-MD5}" + b"00" * 32, b"{SSHA.hex}" + b"00" * 24, b"{PBKDF2}$1$ab$5000$" + b"0" * 40)
    return {
        "names": Target(check_names, (b"mrose", b"fred@shire", b"a+b@x.one.org", b'"q@"@two.org', b"x" * 300),
                        NAME_WORDS),
        "paths": Target(check_paths, (
            b"<a@example.org> SIZE=1", b"<@r,@s:a@x.y>", b'<"q \\" @"@[1.2.3.4]>', b"<a@[IPv6:::1]>", b"<>",
            b"<Postmaster>", "<ä@ö.example>".encode()),
                        (b"@", b"<", b">", b'"', b"\\", b"[IPv6:", b"]", b",", b":")),
        "passwd-file": Target(check_passwd_file, (passwd, b"mrose:" + scram + b"\r\n"), (
            b":", b"{", b"}", b"\n", b"{SHA512-CRYPT}", b"$", b"{PLAIN}", b"*", b"!", b"#")),
        "verifiers": Target(check_verifiers, verifiers, (
            b"{", b"}", b"$", b",", b"=", b"m=", b"{ARGON2I}", b"{MD5}", b".b64", b".hex", b"rounds=",
            b"{CRYPT}", b"\xc3\xa9")),
        "telling": Target(check_telling, (b"mrose\tx", b"\x1b[2J\\\n"), (b"\\", b"\x9b", "\u202e".encode())),
        "config": Target(check_config,
                         (ETC.read_bytes()[:6000], _uncommented(ETC), b'hostname = "a.b"\n[[listen]]\n'
                                        b'protocol = "pop3"\nendpoint = "tcp:0"\n'), CONFIG_WORDS, 16_384),
        "principals": Target(check_principals, (b"u@R", b"a\\/b/c@R", b"{name}@EXAMPLE.ORG -> {name}",
                                                b"{a}/pop@R -> {a}@host", b"a@R -> *@x"),
                             (b"{", b"}", b"->", b"@", b"/", b"\\", b"*", b"{name}", b"R")),
        "script": Target(check_script, (b"C: USER mrose\nS: +OK *\nT: 2\nE: x\nS: (closed)\nC: a\\c\n",),
                         (b"C: ", b"S: ", b"T: ", b"\\x", b"\\", b"*", b"(", b"\\c", b"nan", b"(lines)")),
    }


def _uncommented(sample: Path) -> bytes:
    """Return the sample with every setting that stands there as a comment."""
    return re.sub(rb"(?m)^# (?=[a-z_]+ = |\[)", b"", sample.read_bytes())


TARGETS = targets()
