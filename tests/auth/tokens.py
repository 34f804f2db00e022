"""Keys of an issuer and tokens signed with them, for tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

ISSUER, AUDIENCE = "https://issuer.example.org", "mailgate"


class Issuer:
    """An issuer of JWTs: one RSA and one EC key."""

    def __init__(self) -> None:
        self.rsa = RSAKey.generate_key(2048, {"kid": "rsa"})
        self.ec = ECKey.generate_key("P-256", {"kid": "ec"})

    def write(self, path: Path) -> None:
        """Write the public halves as a JWK set."""
        path.write_text(json.dumps(KeySet([self.rsa, self.ec]).as_dict(private=False)))

    def token(self, name: Any = "user", *, algorithm: str = "RS256", key: Any = None, kid: str | None = None,
              header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """Return a token that is good, but for what is given; a claim of None is left out."""
        key = key or (self.ec if algorithm.startswith("ES") else self.rsa)
        said = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": name, **claims}
        return jwt.encode({"alg": algorithm, "kid": kid or key.kid, **(header or {})},
                          {claim: value for claim, value in said.items() if value is not None},
                          key, algorithms=[algorithm]).encode()
