"""What an operator decides about a listener, as the conversation sees it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """Bounds on what one client may cost."""

    line_octets: int = 255              # a command with its end (RFC 2449 section 4)
    auth_line_octets: int = 128 * 1024  # an AUTH command or response: Kerberos and OAuth tokens are long
    backlog_octets: int = 64 * 1024     # pipelined octets that may wait before reading pauses
    unread_octets: int = 16 * 1024 * 1024   # that may wait of all clients together who have not logged in
    bad_commands: int = 20      # unknown or misplaced commands, in a row, before the connection is closed
    failed_logins: int = 3              # refused logins before the connection is closed
    idle_seconds: float = 600.0         # RFC 1939 section 3 asks for at least ten minutes
    login_seconds: float = 180.0        # the same before the login
    progress_seconds: float = 120.0     # a client that takes no octet of what is sent for so long is cut
    failure_delay_seconds: float = 2.0  # a refused login is answered so long after the attempt; 0: at once
    failure_growth: float = 2.0         # and so many times as long for each one before it
    failure_delay_most_seconds: float = 30.0    # but no longer than that
    failure_half_life_seconds: float = 600.0    # of a refusal in memory


@dataclass(frozen=True)
class Policy:
    """What a listener offers and says."""

    greeting: bytes = b"mailgate ready"      # the text after "+OK "
    implementation: bytes = b"mailgate"      # CAPA IMPLEMENTATION (RFC 2449 section 6.9)
    hostname: bytes = b"localhost"           # in challenges
    apop: bool = False                       # a timestamp in the greeting (RFC 1939 section 7)
    mechanisms: tuple[bytes, ...] | None = None     # these and no others; None: what every user can use
    certificate_name: str | None = None      # what of a client's certificate is its login name
    plaintext_login: bool | None = None      # passwords without TLS; None: from loopback peers only
    expire: bytes | None = None              # b"NEVER" or days: only a retention that is enforced
    login_delay_seconds: int = 0             # announced as LOGIN-DELAY when not 0; the store enforces it
    last: bool = False                       # LAST, removed from the protocol by RFC 1725
    sdps: bool = False                       # *ENV and its capability X-SDPS
    limits: Limits = field(default_factory=Limits)
