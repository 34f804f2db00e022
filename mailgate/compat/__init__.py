"""For applications of twisted.mail: the configured store as a portal, and a POP3 to put under subclasses."""

from mailgate.compat.configured import ConfiguredPortal, portal
from mailgate.compat.pop3 import POP3

__all__ = ["POP3", "ConfiguredPortal", "portal"]
