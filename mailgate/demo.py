"""`twistd mailgate --demo`: a small service to play with, kept under `var/` of the current folder."""

from __future__ import annotations

import shlex
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

from mailgate.auth.schemes import hash_password
from mailgate.cli.starting import FILE_NAME, write_configuration
from mailgate.config import Config, load
from mailgate.demo_mail import SAMPLES, Sample
from mailgate.model import Account, Envelope, Placement
from mailgate.wire.headers import preamble, received_line

FOLDER = Path("var")
HOSTNAME = "demo.example"
ORDINARY, ORDINARY_PASSWORD = "mrose", "tanstaaf"
SDPS, SDPS_PASSWORDS = "shire", ("second breakfast", "po-ta-toes")

TEMPLATE = """\
# The demonstration of `twistd mailgate --demo`. Change it, or remove this folder to begin anew.
# Commands work on it too: mailgate -c {file} account list
"""


def setting() -> None:
    """."""
