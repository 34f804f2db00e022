"""What an operator decides about an LMTP listener, as the conversation sees it."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_RECIPIENTS = 100      # RFC 5321 section 4.5.3.1.8
LEAST_COMMAND_OCTETS = 512  # RFC 5321 section 4.5.3.1.4

# What the parameters of MAIL add to the longest command line: SIZE (RFC 1870 section 3), BODY
# (RFC 6152 section 2), SMTPUTF8 (RFC 6531 section 3.1).
PARAMETER_OCTETS = 26 + 17 + 10


@dataclass(frozen=True)
class LmtpPolicy:
    """Bounds on what one client may cost, and what it is offered."""

    size_octets: int = 52_428_800       # of a message; 0: no fixed limit
    recipients: int = 1000              # accepted in one transaction, at least 100
    command_octets: int = 512           # a command line with its end, MAIL's parameters not counted
    backlog_octets: int = 64 * 1024     # pipelined octets that may wait before reading pauses
    bad_commands: int = 20              # in a row, before the connection is closed
    received_limit: int = 100           # so many Received fields are a loop (RFC 5321 section 6.3)
    idle_seconds: float = 300.0         # RFC 5321 section 4.5.3.2.7 asks for at least five minutes
    progress_seconds: float = 120.0     # a client that takes no octet of what is sent for so long is cut
    utf8: bool = True                   # SMTPUTF8 is offered

    def __post_init__(self) -> None:
        """Raises: ValueError for bounds below those that RFC 5321 lets a client rely on."""
        if self.recipients < LEAST_RECIPIENTS:
            raise ValueError(f"recipients: at least {LEAST_RECIPIENTS}")
        if self.command_octets < LEAST_COMMAND_OCTETS:
            raise ValueError(f"command_octets: at least {LEAST_COMMAND_OCTETS}")

    @property
    def line_octets(self) -> int:
        """The longest command line with its end."""
        return self.command_octets + PARAMETER_OCTETS
