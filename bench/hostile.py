"""Measure good logins beside hostile connections, on a real mailgate with its default limits.

    .venv/bin/python -m bench hostile [--hostile 10000] [--good 200] [--json FILE]

The clients' addresses come by PROXY headers (`proxy_from`), 50 connections to an address: what comes
from loopback itself would not be limited. Each hostile connection does one of seven things and comes
again when it was ended. Good logins are first made on the quiet server, then beside the hostile ones:
each with a password that is verified, and each again, its password remembered. Ends with 1 if any
of them fails. Server and clients have a core each where there are two.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import json
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from bench.fill import PASSWORD
from bench.gateway import Mailgate
from bench.processes import free_port
from mailgate.auth.schemes import hash_password
from mailgate.testing.certificates import Authority

USERS = 2000                # accounts; hostile clients know some names
TO_AN_ADDRESS = 50          # hostile connections; the limit is 100
TO_A_NETWORK = 20           # hostile addresses
GOOD_SECONDS = 60.0         # for one round of good logins
PATIENCE_SECONDS = 60.0     # a good login that takes longer has failed
AGAIN_SECONDS = 1.0         # between the end of a hostile connection and its next
SETTINGS = """
[tls]
certificate = "hostile.pem"
key = "hostile.key"
[[listen]]
protocol = "pop3"
endpoint = "tcp:{proxied}:interface=127.0.0.1:backlog=1024"
proxy_from = ["127.0.0.0/8"]
plaintext_login = true
[[listen]]
protocol = "pop3s"
endpoint = "tcp:{pop3s}:interface=127.0.0.1:backlog=1024"
proxy_from = ["127.0.0.0/8"]
"""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# One connection ---------------------------------------------------------------------------------


async def connect(port: int, client: str, number: int = 0) -> Stream:
    """Return a connection that is a client's, by the word of a proxy at some address of loopback."""
    proxy = f"127.1.{number >> 8 & 255}.{number & 255}"
    stream = await asyncio.open_connection("127.0.0.1", port, local_addr=(proxy, 0))
    stream[1].write(f"PROXY TCP4 {client} 198.51.100.1 40110 110\r\n".encode())
    return stream


async def ask(stream: Stream, *lines: bytes) -> bytes:
    """Say lines at once; return the answer to the last, each being one line."""
    stream[1].write(b"".join(line + b"\r\n" for line in lines))
    answer = b""
    for _ in lines:
        answer = await stream[0].readline()
    return answer


async def to_the_end(stream: Stream) -> None:
    """Read until the server ends it, in whatever way."""
    with contextlib.suppress(OSError):
        while await stream[0].read(4096):
            pass


async def close(stream: Stream) -> None:
    """Hang up."""
    stream[1].close()
    with contextlib.suppress(OSError):
        await stream[1].wait_closed()


# What hostile clients do ------------------------------------------------------------------------


async def say_nothing(stream: Stream, victim: bytes) -> None:
    await to_the_end(stream)


async def say_half_a_line(stream: Stream, victim: bytes) -> None:
    stream[1].write(b"USER " + victim)
    ending = asyncio.ensure_future(to_the_end(stream))
    while not ending.done():
        await asyncio.wait([ending], timeout=20)
        stream[1].write(b"x")


async def guess(stream: Stream, victim: bytes) -> None:
    """Three guesses, each waited for."""
    await stream[0].readline()
    while (await ask(stream, b"USER " + victim, b"PASS wrong")).startswith(b"-ERR [AUTH]"):
        pass
    await to_the_end(stream)


async def guess_and_go(stream: Stream, victim: bytes) -> None:
    """A guess whose refusal is not waited for."""
    await stream[0].readline()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(ask(stream, b"USER " + victim, b"PASS wrong"), 0.5)


async def take_a_salt(stream: Stream, victim: bytes) -> None:
    """A SCRAM exchange that is broken off behind the salt, in one way or the other."""
    first = base64.b64encode(b"n,,n=" + victim + b",r=fyko+d2lbbFgONRv9qkxdawL")
    await stream[0].readline()
    await ask(stream, b"AUTH SCRAM-SHA-256 " + first)
    if random.random() < 0.5:
        await ask(stream, b"*")


async def begin_tls(stream: Stream, victim: bytes) -> None:
    """A third of a ClientHello."""
    stream[1].write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(150))
    await to_the_end(stream)


async def go(stream: Stream, victim: bytes) -> None:
    """Connect and close."""
    await stream[0].readline()


WAYS: tuple[tuple[Callable[[Stream, bytes], Awaitable[None]], int], ...] = (
    (say_nothing, 30), (say_half_a_line, 20), (guess, 15), (guess_and_go, 10), (take_a_salt, 10),
    (begin_tls, 10), (go, 5))
DONE = multiprocessing.Array("q", 2 + len(WAYS))     # open now, made, and how many ended of each way


async def be_hostile(number: int, ports: dict[str, int], start: asyncio.Semaphore) -> None:
    """Do one thing, again and again, from one address."""
    chance = random.Random(number)
    [way] = chance.choices([way for way, _ in WAYS], [weight for _, weight in WAYS])
    place = number // TO_AN_ADDRESS
    client = f"198.18.{place // TO_A_NETWORK}.{place % TO_A_NETWORK + 1}"
    port = ports["pop3s" if way is begin_tls else "proxied"]
    while True:
        known = chance.random() < 0.5
        victim = b"i%04d" % chance.randrange(USERS) if known else b"no%d" % chance.randrange(100_000)
        stream = None
        with contextlib.suppress(OSError, ValueError):
            async with start:
                stream = await connect(port, client, place)
            DONE[0] += 1
            DONE[1] += 1
            await way(stream, victim)
        if stream is not None:
            DONE[0] -= 1
            DONE[2 + [one for one, _ in WAYS].index(way)] += 1
            await close(stream)
        await asyncio.sleep(AGAIN_SECONDS * (0.5 + chance.random()))


def hostile_process(count: int, ports: dict[str, int]) -> None:
    """Be hostile until terminated."""
    async def all_of_them() -> None:
        start = asyncio.Semaphore(100)
        await asyncio.gather(*(be_hostile(number, ports, start) for number in range(count)))

    asyncio.run(all_of_them())


# Good logins ------------------------------------------------------------------------------------


async def good_login(number: int, port: int) -> tuple[float, bytes]:
    """Log in once as an account of our own; return the seconds that took, and what was wrong if it was."""
    begun = time.perf_counter()
    stream = await connect(port, f"203.0.{number // 10 % 256}.{number % 10 + 1}", 60_000)
    await stream[0].readline()
    answer = await ask(stream, b"USER i%04d" % number, b"PASS " + PASSWORD.encode())
    seconds = time.perf_counter() - begun
    if answer.startswith(b"+OK"):
        answer = b"" if (await ask(stream, b"STAT", b"QUIT")).startswith(b"+OK") else b"QUIT failed"
    await close(stream)
    return seconds, answer


async def good_round(numbers: range, port: int, seconds: float) -> dict[str, Any]:
    """Make so many logins, evenly over the time; return how they went."""
    async def one(position: int, number: int) -> tuple[float, bytes]:
        await asyncio.sleep(position * seconds / len(numbers))
        try:
            return await asyncio.wait_for(good_login(number, port), PATIENCE_SECONDS)
        except (OSError, asyncio.TimeoutError) as fault:
            return PATIENCE_SECONDS, type(fault).__name__.encode()

    results = await asyncio.gather(*(one(position, number) for position, number in enumerate(numbers)))
    times = sorted(taken for taken, _ in results)
    failed = collections.Counter(answer.decode("ascii", "replace").strip() for _, answer in results if answer)
    return {"logins": len(times), "median_ms": 1000 * statistics.median(times), "worst_ms": 1000 * times[-1],
            "p95_ms": 1000 * times[int(0.95 * len(times))], "failed": dict(failed)}


# All together -----------------------------------------------------------------------------------


def measured(server: Mailgate, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what some work says, with the server's share of a core meanwhile, and its memory."""
    cpu, begun = server.tree.cpu_seconds(), time.monotonic()
    result = work()
    result["core_percent"] = 100 * (server.tree.cpu_seconds() - cpu) / (time.monotonic() - begun)
    result["memory_mb"] = server.tree.memory_octets() / 1e6
    return result


def measure(server: Mailgate, ports: dict[str, int], hostile: int, good: int,
            seconds: float) -> dict[str, Any]:
    """Return the figures of all rounds."""
    def round_of(first: int) -> dict[str, Any]:
        return measured(server, lambda: asyncio.run(
            good_round(range(first, first + good), ports["proxied"], seconds)))

    figures = {"alone": round_of(0)}
    # fork: what counts is shared with it
    attackers = multiprocessing.get_context("fork").Process(
        target=hostile_process, args=(hostile, ports), daemon=True)
    attackers.start()
    try:
        for _ in range(1200):       # those that come and go are never all there
            if DONE[0] >= 0.75 * hostile or DONE[1] >= hostile:
                break
            time.sleep(0.1)
        time.sleep(min(10.0, seconds))
        begun = DONE[1], time.monotonic()
        figures["verified"] = round_of(good)
        figures["remembered"] = round_of(good)
        figures["hostile"] = {
            "open": DONE[0], "made": DONE[1],
            "made_each_second": (DONE[1] - begun[0]) / (time.monotonic() - begun[1]),
            **{way.__name__: DONE[2 + index] for index, (way, _) in enumerate(WAYS)}}
        figures["hostile"]["descriptors"] = len(os.listdir(f"/proc/{server.tree.pid}/fd"))
    finally:
        attackers.terminate()
        attackers.join()
    return figures


@contextlib.contextmanager
def serving() -> Iterator[tuple[Mailgate, dict[str, int], Path]]:
    """Run a server; give it, its ports, and its folder."""
    ports = {"proxied": free_port(), "pop3s": free_port()}
    with tempfile.TemporaryDirectory(prefix="mailgate-bench-") as name:
        folder = Path(name)
        Authority().issue("localhost").write(folder, "hostile.pem", "hostile.key")
        server = Mailgate(folder, further=SETTINGS.format(**ports))
        # with the default hash
        server.fill({"kind": "accounts", "user": "i%04d", "count": USERS,
                     "verifier": hash_password(PASSWORD.encode())})
        with server:
            yield server, ports, folder


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hostile", type=int, default=10_000)
    parser.add_argument("--good", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=GOOD_SECONDS, help="for one round of good logins")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))        # the server's too
    if most != resource.RLIM_INFINITY and most < asked.hostile + 1000:
        raise SystemExit(f"{most} open files are too few for {asked.hostile} connections: ulimit -Hn")
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    with serving() as (server, ports, folder):
        figures = measure(server, ports, asked.hostile, asked.good, asked.seconds)
        lines = [line for log in folder.glob("log*") for line in log.read_text(encoding="utf-8").splitlines()]
        figures["log"] = {"refused": sum("] login refused for " in line for line in lines),
                          "alarms": sum("#error]" in line or "#critical]" in line for line in lines)}
    for title, values in figures.items():
        shown = (f"{key} {value:.0f}" if isinstance(value, float) else f"{key} {value}"
                 for key, value in values.items())
        print(title.ljust(12), ", ".join(shown), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    if any(values.get("failed") for values in figures.values()) or figures["log"]["alarms"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
