"""What the layers ask of one another. Every interface answers its implementer's questions.

Methods that return a Deferred fail only with `mailgate.errors.MailgateError`; anything else that
comes out is a bug and answers as an outage.
"""

from mailgate.interfaces.accounts import (
    IAccountStore,
    IMaildropLookup,
    IRouter,
    ISecretSource,
    IUserLookup,
)
from mailgate.interfaces.blobs import IBlobReader, IBlobStore, IBlobWriter
from mailgate.interfaces.maildrops import (
    Content,
    IDelivery,
    IFolderStore,
    IImportRecords,
    IMaildrop,
    IMaildropStore,
    IMessageStream,
    IPreparedDelivery,
    Outcome,
)
from mailgate.interfaces.spools import ISpool, ISpoolReader, ISpoolRecords, ITenure

__all__ = [
    "Content",
    "IAccountStore",
    "IBlobReader",
    "IBlobStore",
    "IBlobWriter",
    "IDelivery",
    "IFolderStore",
    "IImportRecords",
    "IMaildrop",
    "IMaildropLookup",
    "IMaildropStore",
    "IMessageStream",
    "IPreparedDelivery",
    "IRouter",
    "ISecretSource",
    "ISpool",
    "ISpoolReader",
    "ISpoolRecords",
    "ITenure",
    "IUserLookup",
    "Outcome",
]
