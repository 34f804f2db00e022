"""The `mailgate` command: accounts, deliveries, imports and checks, over the store that the service serves.

Exit codes are those of sysexits.h; what is wrong is told in one line each on standard error.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from mailgate.cli.commands import mailgate
from mailgate.cli.telling import Refusal, reason, tell
from mailgate.errors import ConfigurationError, MailgateError
from mailgate.wire.faults import answer_for

DEBUG = "MAILGATE_DEBUG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        outcome = mailgate.main(arguments, prog_name="mailgate", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit:      # click's answer to a reader of our output that has gone
        return os.EX_IOERR
    except (Exception, KeyboardInterrupt) as fault:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        lines, code = explanation(fault)
        for line in lines:
            tell(line)
        return code
    return outcome if isinstance(outcome, int) else os.EX_OK


def explanation(fault: BaseException) -> tuple[Sequence[str], int]:
    """Return what to say about a fault, and the exit code. A bug asks to try again: mail must not bounce."""
    if isinstance(fault, click.UsageError):
        command = fault.ctx.command_path if fault.ctx else "mailgate"
        return [f"{fault.format_message()} See `{command} --help`."], os.EX_USAGE
    if isinstance(fault, (click.Abort, KeyboardInterrupt)):
        return ["interrupted"], os.EX_TEMPFAIL
    if isinstance(fault, Refusal):
        return fault.lines, fault.code
    if isinstance(fault, ConfigurationError):
        return fault.problems, os.EX_CONFIG
    if isinstance(fault, MailgateError):
        return [reason(fault)], answer_for(fault).exit
    if isinstance(fault, BrokenPipeError):      # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return [], os.EX_IOERR
    if isinstance(fault, OSError):
        return [f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault)], os.EX_IOERR
    return [f"a bug: {fault!r} (set {DEBUG}=1 to see where)"], os.EX_TEMPFAIL
