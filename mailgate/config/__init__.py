"""The configuration: a TOML file turned into typed, frozen sections, or into all that is wrong with it."""

from mailgate.config.reading import load, parse, read
from mailgate.config.sections import (
    AccountsSection,
    CertificateSection,
    CheckerSection,
    Config,
    KerberosSection,
    LimitsSection,
    ListenSection,
    Pop3Section,
    StoreSection,
    TlsSection,
)

__all__ = [
    "AccountsSection",
    "CertificateSection",
    "CheckerSection",
    "Config",
    "KerberosSection",
    "LimitsSection",
    "ListenSection",
    "Pop3Section",
    "StoreSection",
    "TlsSection",
    "load",
    "parse",
    "read",
]
