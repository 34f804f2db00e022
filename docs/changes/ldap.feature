Checker of kind ``ldap``: users of an LDAP directory log in by search and bind, or by a DN template, over StartTLS, ldaps or
a local socket, with several servers, and receive mail at any address that their entry has. Twistd's ``--auth`` knows it as
``mailgate-ldap``.
