SDPS, Demon Internet's dialect: one account a host with up to two passwords, opened whole or as user@host or
user+host, the envelope of each message by *ENV, the same unique-ids in every view.
