App passwords: ``mailgate account password add|list|revoke`` keeps several named passwords of an account, made at random or
chosen, each with its last use; ``account passwd --none`` leaves nothing but them. ``account address`` and
``account domain`` change what an account receives, ``account show`` tells what there is to say of one, and
``account add --adopt`` takes over the maildrop of another checker's user.
