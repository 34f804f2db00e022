Checkers for the store's accounts and for passwd-files in Dovecot's form, others by twistd's --auth. ARGON2ID
for new passwords, the usual schemes for old ones; hashing in a bounded pool that is fair between networks;
right passwords are remembered for minutes. Refused logins are alike whatever was wrong, and leave at one
fixed time.
