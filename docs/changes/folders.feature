Maildrops have folders beside the INBOX, which alone POP3 shows, and messages have flags. ``mailgate import`` takes the
folders of a Maildir (Maildir++) and the marks of Maildirs and mboxes; ``mailgate maildrop folders`` and ``maildrop list
--folder`` show them. For Python: ``IFolderStore``, and ``IMaildropStore.maildrops``, ``peek`` and ``take_ids``. Schema 8.
