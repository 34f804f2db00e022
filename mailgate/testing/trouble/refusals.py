"""Commands that are refused, answered with something made up, or not carried out as they were given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import (
    REQUIRED,
    RESPONSE,
    End,
    Instead,
    Kind,
    Occasion,
    Octets,
    Stall,
    Step,
)
from mailgate.testing.trouble.replies import text_lines

LOGINS = ("PASS", "APOP", "AUTH", RESPONSE)
PRETENCES = {"DELE": b"+OK marked as deleted\r\n", "RSET": b"+OK marks removed\r\n",
             "QUIT": b"+OK goodbye\r\n",
             "NOOP": b"+OK nothing done\r\n"}


def _refusal(occasion: Occasion) -> bytes:
    code, words = occasion.setting("code"), occasion.setting("text")
    return b" ".join([b"-ERR", *([f"[{code}]".encode()] if code else []),
                      *([words] if words else [])]) + b"\r\n"


def _error(occasion: Occasion) -> Instead:
    return Instead(_refusal(occasion), occasion.setting("close"), occasion.setting("execute"))


def _login(occasion: Occasion) -> Instead:
    return Instead(_refusal(occasion), execute=occasion.setting("execute"))


def _answer(occasion: Occasion) -> Instead:
    reply = text_lines(occasion.setting("text"), raw=occasion.setting("raw"))
    return Instead(reply, occasion.setting("close"), occasion.setting("execute"))


def _pretend(occasion: Occasion) -> Instead:
    words = text_lines(occasion.setting("text"))
    return Instead(words or PRETENCES.get(occasion.verb, b"+OK\r\n"), occasion.verb == "QUIT")


def _before_early(occasion: Occasion) -> None:
    if occasion.setting("next"):
        occasion.around.say_ahead(occasion.setting("next").encode())
    else:
        occasion.around.answer_ahead(text_lines(occasion.setting("text")))


def _check_early(settings: Mapping[str, Any]) -> str:
    if bool(settings["next"]) == bool(settings["text"]):
        return "next: either a command to carry out or, as text, a reply is expected"
    return "next: one line is expected" if re.search(r"[\r\n]", settings["next"]) else ""


def _misheard(occasion: Occasion) -> None:
    words = occasion.argument.split()

    def word(found: re.Match[str]) -> str:
        index = int(found[1])
        argument = occasion.argument if index == 0 else b"".join(words[index - 1:index])
        return argument.decode("utf-8", "surrogateescape")

    line = re.sub(r"\{(\d)\}", word, occasion.setting("as"))
    occasion.around.have_command(line.encode("utf-8", "surrogateescape"))


def _check_misheard(settings: Mapping[str, Any]) -> str:
    return "" if settings["as"].strip() and not re.search(r"[\r\n]", settings["as"]) else (
        "as: a command is expected, in one line")


def _quit(occasion: Occasion) -> Instead | None:
    how = occasion.setting("how")
    if how == "fails":
        return Instead(b"-ERR some deleted messages not removed\r\n", then_end=True)
    return Instead(b"+OK goodbye\r\n", then_end=True) if how == "lies" else None


def _before_quit(occasion: Occasion) -> None:
    if occasion.setting("how") == "partly":
        around, kept = occasion.around, occasion.setting("keeps")
        marked = [one.number for one in around.listing() if one.marked]
        around.unmark([number for number in marked if number in kept] if kept else marked[1:])


def _deliver_quit(occasion: Occasion, steps: list[Step]) -> list[Step]:
    how = occasion.setting("how")
    if how == "silent":
        return [*[step for step in steps if not isinstance(step, Octets)], End()]
    return [*steps, Stall()] if how == "stays" else steps


def _rework_quit(occasion: Occasion, reply: bytes) -> bytes:
    partly = occasion.setting("how") == "partly" and occasion.setting("told")
    return b"-ERR some deleted messages not removed\r\n" if partly else reply


def _hide_capabilities(occasion: Occasion, reply: bytes) -> bytes:
    if not reply.startswith(b"+"):
        return reply
    hidden = {word.upper() for word in occasion.setting("hide")}
    only = occasion.setting("only")
    added = [text_lines(word.encode()) for word in occasion.setting("add")]
    if only is not None:
        rows = [text_lines(word.encode()) for word in only]
    else:
        rows = [row for row in reply.splitlines(keepends=True)[1:-1]
                if row.strip().decode("utf-8", "replace").upper() not in hidden
                and (row.split() or [b""])[0].decode("utf-8", "replace").upper() not in hidden]
    return reply.partition(b"\n")[0] + b"\n" + b"".join(rows + added) + b".\r\n"


_WORDS = {"code": (values.text, ""), "text": (values.octets, b"refused"), "execute": (values.switch, False)}

KINDS = (
    Kind("error",
         "Answers -ERR, with a response code if one is given, instead of carrying the command out, or "
         "(execute) although it was; with `close` the connection ends behind it.",
         {**_WORDS, "close": (values.switch, False)}, instead=_error),
    Kind("answer",
         "Says any text, of one line or many, instead of carrying the command out or (execute) instead "
         "of the reply; line ends are made CRLF unless it is `raw`.",
         {"text": (values.octets, REQUIRED), "raw": (values.switch, False), "execute": (values.switch, False),
          "close": (values.switch, False)}, instead=_answer),
    Kind("login",
         "Refuses a login, whichever way it is tried, as if the maildrop were in use; with `execute` it "
         "has succeeded all the same, and the maildrop is locked.",
         {**_WORDS, "code": (values.text, "IN-USE"), "text": (values.octets, b"maildrop already locked")},
         LOGINS,
         instead=_login),
    Kind("pretend", "Answers +OK as if DELE, RSET, QUIT or NOOP were carried out, and does nothing.",
         {"text": (values.octets, b"")}, tuple(PRETENCES), instead=_pretend),
    Kind("quit", "QUIT goes wrong: it `fails` (-ERR, nothing is removed), `lies` (+OK, nothing is removed), "
         "is `silent` (all is removed, and the connection ends without an answer), removes `partly` (not "
         "the messages in `keeps`, or without any there the first alone; it says +OK, or -ERR if `told`), "
         "or `stays` (all is done and said, and the connection remains).",
         {"how": (values.choice("fails", "lies", "silent", "partly", "stays"), REQUIRED),
          "keeps": (values.numbers, ()), "told": (values.switch, False)},
         ("QUIT",), instead=_quit, before=_before_quit, deliver=_deliver_quit, rework=_rework_quit),
    Kind("early",
         "Says the reply to the next command behind this one's, before the client gives it: `next` is "
         "carried out at once, or `text` is said. The client's own then has no other answer.",
         {"next": (values.text, ""), "text": (values.octets, b"")}, before=_before_early, check=_check_early),
    Kind("misheard",
         "Carries out another command than the one given: {0} in it stands for the argument, {1} for "
         "its first word.", {"as": (values.text, REQUIRED)}, before=_misheard, check=_check_misheard),
    Kind("capabilities", "CAPA hides words, adds some, or announces `only` what is given.",
         {"hide": (values.texts, ()), "add": (values.texts, ()), "only": (values.texts, None)}, ("CAPA",),
         rework=_hide_capabilities),
)
