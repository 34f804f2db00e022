What clients say that send mail to a harness, by SMTP and LMTP, is recorded: ``server.deliveries``, ``deliveries`` of the HTTP
API, a view of the console, and transcripts. ``split`` of a very long reply takes seconds, not minutes: its segments are kept
apart for long at its beginning and its end alone.
