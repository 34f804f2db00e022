SCRAM-SHA-256 and SCRAM-SHA-1 with and without channel binding, CRAM-MD5, LOGIN, EXTERNAL, OAUTHBEARER, XOAUTH2 and APOP. SCRAM
is announced while every account has keys for it; ``account add --scram`` keeps them, and ``mailgate check`` names
those without. No password that can be read is kept, unless that is asked for.
