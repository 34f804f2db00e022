Sessions with the test harness are shown as transcripts that can be pasted as scripts, and as JSON; passwords are masked in
both, however a client sends them.
