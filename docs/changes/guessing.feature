Against guessing: connections are bounded by address (IPv6 by /64) and by user and address as well as in all; refused logins
are answered later with each one, right passwords never; a refused login keeps its place until its time though its
client hangs up; SCRAM exchanges that are broken off behind the salt count as refused. One log line for each, in a form that
stays, with a filter and a jail for fail2ban. Before the login bad commands are counted in all, not in a row.
Peers of this machine count in all, no longer as a network.
