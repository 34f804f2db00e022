Adapters both ways: stock twisted.mail.pop3.POP3 over our store, our POP3 over any IMailboxPOP3, and
mailgate.compat.POP3, which stands in for twisted.mail.pop3.POP3 under existing subclasses;
mailgate.compat.portal gives a portal over a configured store.
