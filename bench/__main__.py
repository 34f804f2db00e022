"""Measure mailgate on this machine: `python -m bench WHAT --help` tells what each takes."""

from __future__ import annotations

import importlib
import sys

WHAT = {
    "compare": "the same work on mailgate and on the servers that are installed, side by side",
    "growth": "what becomes of the cost as maildrops, stores, sessions and messages grow",
    "delivery": "messages a second by LMTP, beside Dovecot, and what syncs they cost",
    "latency": "round trips of quiet sessions beside downloads and a storm of logins",
    "short": "a few seconds: CPU of the hot paths beside the figures of before",
    "tls": "what TLS costs",
    "hostile": "good logins beside hostile connections",
}


def main() -> int:
    """Run one measurement; return its exit code."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in WHAT:
        print("usage: python -m bench WHAT [options]\n" +
              "".join(f"\n  {name:10}{words}" for name, words in WHAT.items()), file=sys.stderr)
        return 64
    del sys.argv[1]
    sys.argv[0] = f"python -m bench {what}"
    return int(importlib.import_module(f"bench.{what}").main() or 0)


if __name__ == "__main__":
    sys.exit(main())
