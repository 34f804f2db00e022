"""The configuration: a TOML file turned into typed, frozen sections, or into all that is wrong with it."""

from mailgate.config.reading import load, parse
from mailgate.config.sections import (
    CheckerSection,
    Config,
    LimitsSection,
    ListenSection,
    Pop3Section,
    StoreSection,
)

__all__ = [
    "CheckerSection",
    "Config",
    "LimitsSection",
    "ListenSection",
    "Pop3Section",
    "StoreSection",
    "load",
    "parse",
]
