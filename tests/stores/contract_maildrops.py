"""The contract of IMaildropStore, written from the interface alone: what every adapter must pass.

Mix it into a trial TestCase that gives the hooks of `StoreHooks`.
"""

from __future__ import annotations

from tests.stores.contract_base import StoreHooks
from tests.stores.contract_care import CareContract
from tests.stores.contract_delivery import DeliveryContract
from tests.stores.contract_fences import FenceContract
from tests.stores.contract_ids import UniqueIdContract
from tests.stores.contract_leases import LeaseContract
from tests.stores.contract_peeking import PeekContract
from tests.stores.contract_reading import ReadingContract

__all__ = ["MaildropStoreContract", "StoreHooks"]


class MaildropStoreContract(LeaseContract, ReadingContract, PeekContract, UniqueIdContract, DeliveryContract,
                            CareContract, FenceContract):
    """Every guarantee of a store of maildrops."""
