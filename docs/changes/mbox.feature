mbox spools as a live store: `maildrops = "mbox:/var/mail/{name}"`, shared with MTAs and mail programs under fcntl lock and `NAME.lock` as
Debian's policy wants. Mail may be appended at any time; QUIT rewrites in place and is finished by the next login if it was interrupted.
The store does not start where mailboxes cannot be locked.
