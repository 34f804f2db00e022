"""mailgate's checkers for `twistd SERVICE --auth`."""

from mailgate.assembly.strcred import OAuthFactory, PamFactory, StoreFactory
from mailgate.auth.strcred import LdapFactory, PasswdFileFactory

passwdFile = PasswdFileFactory()
ldapDirectory = LdapFactory()
storeAccounts = StoreFactory()
systemUsers = PamFactory()
bearerTokens = OAuthFactory()
