"""What errors of a bucket mean, in words of our own.

The driver's texts hold whole answers of the server, and these what it was sent: they are searched, and
not shown.
"""

from __future__ import annotations

import re

from mailgate.errors import StoreFull, StoreUnavailable

MOST_SHOWN = 200    # characters of what is not known here

# By the code in the server's answer (Amazon S3 API, "Error responses"; those of MinIO and Ceph besides).
WORDS = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "the object is not there",
    "AccessDenied": "these credentials may not do this",
    "AllAccessDisabled": "these credentials may not do this",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong, or the access key not known there",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is wrong",
    "RequestTimeTooSkewed": "the clocks here and there are too far apart",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "PermanentRedirect": "the bucket is in another region",
    "SlowDown": "it is asked too often",
}
FULL = frozenset({"QuotaExceeded", "QuotaExceededException", "InsufficientStorage", "EntityTooLarge",
                  "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
INSUFFICIENT_STORAGE = 507      # RFC 4918 section 11.5

# Where no server answered: words by what the driver's text has in it, the first that fits.
NO_CREDENTIALS = "there are no credentials: none in the environment, and this machine has no role"
_OF_A_ROLE = re.compile(r"169\.254\.16|fd00:ec2::254|security-credentials")
_WITHOUT_ANSWER = (
    (_OF_A_ROLE, NO_CREDENTIALS),
    (re.compile(r"invalid peer certificate|certificate verify failed|UnknownIssuer"),
     "its certificate is not to be trusted"),
    (re.compile(r"kind: Timeout|TimedOut|timed out"), "no answer in time"),
    (re.compile(r"dns error|failed to lookup"), "its host is not known"),
    (re.compile(r"URL scheme is not allowed"), "http:// is not allowed here"),
    (re.compile(r"kind: Connect|Connection refused"), "no connection"),
    (re.compile(r"kind: (Request|Body|Decode|Interrupted)|connection closed|IncompleteMessage|reset by peer"),
     "the connection broke off"),
    (re.compile(r"error sending request"), "no connection, or no answer in time"),
)
_BY_STATUS = {"404": "the object is not there", "403": "these credentials may not do this",
              "401": "the credentials are not taken"}
_CODE = re.compile(r"<Code>\s*(\w+)\s*</Code>")
_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
_REGION = re.compile(r"<Region>\s*([\w-]+)\s*</Region>")
_OUR_WORDS = re.compile(r"credential provider: \w+: ([^\n]+)")


def s3_fault(error: Exception, where: str) -> StoreUnavailable:
    """Return the fault that an error of the driver means; its text tells what, where, and no secret."""
    text = str(error)
    ours = _OUR_WORDS.search(text)
    if ours is not None:
        return StoreUnavailable(f"{where}: {ours[1]}")
    code, status = _first(_CODE, text), _first(_STATUS, text)
    if code in FULL or status == str(INSUFFICIENT_STORAGE):
        return StoreFull(f"{where}: no space is left there ({code or status})")
    if code or status:
        words = WORDS.get(code) or _BY_STATUS.get(status, "an error of the service")
        if not code and _OF_A_ROLE.search(text):
            words = NO_CREDENTIALS
        region = _first(_REGION, text)
        return StoreUnavailable(f"{where}: {words} ({' '.join(filter(None, (status, code)))})"
                                + (f"; it says {region}" if region else ""))
    for pattern, words in _WITHOUT_ANSWER:
        if pattern.search(text):
            return StoreUnavailable(f"{where}: {words}")
    return StoreUnavailable(f"{where}: {_shown(text) or type(error).__name__}")


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found else ""


def _shown(text: str) -> str:
    """Return the beginning of a text that is not the server's."""
    return text.partition("\n")[0].partition("<")[0][:MOST_SHOWN].strip()
