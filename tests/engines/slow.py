"""A relay on loopback that makes a near service a far one: it delays what is asked, counts it, and can stop.

    relay = Relay(("127.0.0.1", port))      # listens; a thread of its own carries the octets
    relay.delay_seconds = 0.2
    ...                                     # the client talks to relay.address
    relay.waits()                           # how many requests had to follow one another
    relay.freeze(); relay.thaw(); relay.cut(); relay.end()

A request is what a client sends behind the last answer, whatever the protocol: HTTP, PostgreSQL's. A client
that sends several before it has an answer makes one request of them, as it waits for them once.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

READ_OCTETS = 262_144
WAIT_SECONDS = 30.0     # for the relay's own thread

T = TypeVar("T")


class Request(NamedTuple):
    """One request and its answer, by `time.monotonic`."""

    asked: float        # its first octets came from the client
    answered: float     # the first octets of its answer went to the client


class Relay:
    """Carries connections to one service. Everything that is called here may be called from any thread."""

    def __init__(self, target: tuple[str, int], delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds      # of each request; may be changed at any time
        self.requests: list[Request] = []
        self._target = target
        self._asked = 0                         # requests that were answered or not
        self._ends: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._running: asyncio.Event | None = None      # clear while it is frozen
        listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(self._listen, listening)

    # What a test does ---------------------------------------------------------------------------

    def forget(self) -> None:
        """Count from here on."""
        self.requests, self._asked = [], 0

    @property
    def asked(self) -> int:
        """How many requests came, answered or not."""
        return self._asked

    def waits(self) -> int:
        """Return how many of the requests had to follow one another: as many delays did somebody wait."""
        return longest_chain(self.requests)

    def freeze(self) -> None:
        """Carry nothing on, in either direction; connections stay."""
        self._do(self._set, False)

    def thaw(self) -> None:
        """Carry on what was held back and what comes."""
        self._do(self._set, True)

    def cut(self) -> None:
        """Break every connection off. New ones may come."""
        self._do(self._cut)

    def end(self) -> None:
        """Break everything off and listen no more."""
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def _do(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        return asyncio.run_coroutine_threadsafe(work(*args), self._loop).result(WAIT_SECONDS)   # type: ignore

    # In the thread ------------------------------------------------------------------------------

    async def _listen(self, listening: socket.socket) -> asyncio.Server:
        self._running = asyncio.Event()
        self._running.set()
        return await asyncio.start_server(self._carry, sock=listening, limit=READ_OCTETS)

    async def _set(self, running: bool) -> None:
        assert self._running is not None
        self._running.set() if running else self._running.clear()

    async def _cut(self) -> None:
        for end in list(self._ends):
            end.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        ends = {writer}
        self._ends.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=READ_OCTETS)
            ends.add(far_writer)
            self._ends.add(far_writer)
            turn = _Turn()
            await asyncio.gather(self._requests(reader, far_writer, turn),
                                 self._answers(far_reader, writer, turn))
        except (OSError, asyncio.CancelledError):
            pass                # one of them has gone, so does the other; or all is over
        finally:
            for end in ends:
                self._ends.discard(end)
                end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, turn: _Turn) -> None:
        assert self._running is not None
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def forward() -> None:
            while True:
                due, data = await held.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._running.wait()
                if not data:
                    far.write_eof()
                    return
                far.write(data)
                await far.drain()

        async def take() -> None:
            data = b"first"
            while data:
                data = await reader.read(READ_OCTETS)
                now = time.monotonic()
                if data and turn.asked is None:
                    turn.asked = now
                    self._asked += 1
                held.put_nowait((now + self.delay_seconds, data))

        await asyncio.gather(take(), forward())

    async def _answers(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: _Turn) -> None:
        assert self._running is not None
        while data := await far.read(READ_OCTETS):
            await self._running.wait()
            if turn.asked is not None:
                self.requests.append(Request(turn.asked, time.monotonic()))
                turn.asked = None
            writer.write(data)
            await writer.drain()
        writer.write_eof()


class _Turn:
    """Whose turn it is on one connection."""

    def __init__(self) -> None:
        self.asked: float | None = None     # since when the client waits for an answer


def longest_chain(requests: Sequence[Request]) -> int:
    """Return how many requests at most each began after the one before was answered.

    That is the largest number of intervals no two of which overlap: take the one that ends first, again and
    again.
    """
    count, free_from = 0, float("-inf")
    for request in sorted(requests, key=lambda one: one.answered):
        if request.asked >= free_from:
            count, free_from = count + 1, request.answered
    return count
