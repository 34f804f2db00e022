"""Operations on accounts."""

from __future__ import annotations

from urllib.parse import quote

from mailgate.testing.api.operations import Answer, Call
from mailgate.testing.api.shapes import account


async def get_accounts(call: Call) -> Answer:
    """Answer with all accounts."""
    return Answer({"accounts": [account(one) for one in await call.harness.store.accounts.list()]})


async def post_account(call: Call) -> Answer:
    """Add an account."""
    body = call.body
    passwords = [*body.get("passwords", ()), *([body["password"]] if "password" in body else ())]
    await call.harness.add_account(
        body["name"], *passwords, addresses=body.get("addresses", ()), domains=body.get("domains", ()),
        sdps=body.get("sdps", False))
    added = await call.harness.store.accounts.get(body["name"])
    return Answer(account(added), 201, headers={"Location": f"{call.base}/accounts/{quote(added.name, '')}"})


async def delete_account(call: Call) -> Answer:
    """Remove an account and its maildrop."""
    await call.harness.store.accounts.remove(call.path["name"])
    return Answer(status=204)
