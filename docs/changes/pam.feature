A checker for the users of this system, by PAM: authentication and account, in processes of its own with a
time limit, so that no module's delay, hang or crash touches another login. LMTP takes mail for them.
