``metadata = "postgresql://user@host1,host2/database"``: accounts, leases, envelopes and small mail in a PostgreSQL server that
nodes on any machines share. Serializable transactions that are run again where they conflict, a few round trips an operation,
failover to a replica. A delivery whose commit got no answer is looked for and never stored twice; a QUIT whose lease ran
out removes nothing.
