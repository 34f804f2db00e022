"""What a call comes to, now or later."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.outcomes import outcome_of


class OutcomeTests(SynchronousTestCase):
    def test_whatever_it_returns(self) -> None:
        async def coroutine() -> str:
            return "late"

        for answer in ("late", succeed("late"), coroutine()):
            asked = Deferred.fromCoroutine(outcome_of(lambda answer=answer: answer))
            self.assertEqual(self.successResultOf(asked), "late")

    def test_whatever_it_raises(self) -> None:
        def raising() -> None:
            raise KeyError("it")

        for call in (raising, lambda: fail(KeyError("it")), lambda: Failure(KeyError("it"))):
            self.failureResultOf(Deferred.fromCoroutine(outcome_of(call)), KeyError)

    def test_later(self) -> None:
        pending: Deferred[int] = Deferred()
        asked = Deferred.fromCoroutine(outcome_of(lambda: pending))
        self.assertNoResult(asked)
        pending.callback(7)
        self.assertEqual(self.successResultOf(asked), 7)
