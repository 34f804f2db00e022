"""A refused login tells nothing: one reply, one time, whatever the reason."""

from __future__ import annotations

import statistics
import time

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.measures import tell
from tests.interop.talk import PASSWORD

pytestmark = pytest.mark.alone

DELAY_SECONDS = 0.3
ROUNDS = 3
NEAR_SECONDS = 0.1      # medians of this machine under load differ by a few milliseconds

house = House(accounts=5, hosts={"xyz": ("one", "two")}, delay_seconds=DELAY_SECONDS)
setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    house.site.succeed("account", "disable", "user1")
    house.site.succeed("account", "add", "slow", "--password-stdin", stdin=b"secret\n")


class FailureTests(SynchronousTestCase):
    def test_every_refusal_is_the_same(self) -> None:
        """Unknown, wrong password under a slow and a fast scheme, disabled: same reply, same time."""
        attempts = {
            "unknown user": ("nobody", PASSWORD), "unknown user of a host": ("a@nowhere", PASSWORD),
            "wrong password": ("user0", "wrong"), "wrong password, slow scheme": ("slow", "wrong"),
            "wrong password, two slow ones": ("fred@xyz", "wrong"),
            "disabled": ("user1", PASSWORD), "disabled, wrong password": ("user1", "wrong")}
        replies: set[bytes] = set()
        medians: dict[str, float] = {}
        for title, (name, password) in attempts.items():
            times = []
            for _ in range(ROUNDS):
                with house.talk() as client:
                    client.ask(f"USER {name}")
                    begun = time.perf_counter()
                    replies.add(client.ask(f"PASS {password}"))
                    times.append(time.perf_counter() - begun)
            medians[title] = statistics.median(times)
            tell(f"refused after ({title})", f"{medians[title] * 1000:.0f} ms")
        self.assertEqual(len(replies), 1, replies)
        self.assertTrue(replies.pop().startswith(b"-ERR [AUTH] "))
        self.assertGreaterEqual(min(medians.values()), DELAY_SECONDS - 0.01)
        self.assertLess(max(medians.values()) - min(medians.values()), NEAR_SECONDS, medians)

    def test_success_does_not_wait(self) -> None:
        """A right password is answered without the delay."""
        def seconds() -> float:
            begun = time.perf_counter()
            with house.talk() as client:
                self.assertTrue(client.log_in("user2").startswith(b"+OK"))
                taken = time.perf_counter() - begun
                client.ask("QUIT")
            return taken

        self.assertLess(min(seconds() for _ in range(ROUNDS)), DELAY_SECONDS)

    def test_delay_holds_nobody_else_up(self) -> None:
        """While refusals wait for their time, and for their turn to be checked, others are served."""
        house.login("user3").quit()     # a success is remembered: the next one needs no check

        def seconds() -> float:
            refused = [house.talk() for _ in range(20)]
            for client in refused:
                self.addCleanup(client.close)
                client.say("USER nobody", "PASS wrong")
            begun = time.perf_counter()
            house.login("user3").quit()
            taken = time.perf_counter() - begun
            for client in refused:
                self.assertTrue(client.line().startswith(b"+OK"))
                self.assertTrue(client.line().startswith(b"-ERR [AUTH]"))
            return taken

        self.assertLess(min(seconds() for _ in range(ROUNDS)), DELAY_SECONDS)

    def test_too_many_failures(self) -> None:
        """After three refusals the connection is closed."""
        with house.talk() as client:
            for _ in range(3):
                self.assertTrue(client.log_in("user4", "wrong").startswith(b"-ERR [AUTH]"))
            self.assertEqual(client.line(), b"")
