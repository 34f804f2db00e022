"""mailgate's checkers for `twistd SERVICE --auth`."""

from mailgate.auth.strcred import PasswdFileFactory

passwdFile = PasswdFileFactory()
