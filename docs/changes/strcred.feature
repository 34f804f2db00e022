The store's accounts, PAM and bearer tokens are plugins for --auth of twistd's services too: mailgate-store,
mailgate-pam and mailgate-oauth, beside mailgate-passwd.
