``keys`` of an oauth checker may be the ``https://`` address at which the issuer publishes them: fetched when needed and when a
token names a new key, kept through an outage. ``mailgate check`` looks at the keys of tokens, wherever they are. Questions
to an issuer take ten seconds at most, the answer's last octet included.
