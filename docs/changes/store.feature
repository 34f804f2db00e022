One store of maildrops and accounts, in SQLite and files or in memory, for several processes of one machine.
Sessions hold leases that end with their process, a session that lost its lease removes nothing; messages rest
in the form in which they are sent. Quota, retention, sweep of what a crash left, numbered migrations.
Database and bodies know each other by an id, and neither is used with another's. Accounts and users of other
checkers never share a maildrop.
