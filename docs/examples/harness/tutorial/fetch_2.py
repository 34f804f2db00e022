import os
import poplib


def fetch(host, port, user, password, path):
    """Append all messages of a maildrop to a file, and delete them on the server."""
    server = poplib.POP3(host, port, timeout=5)
    try:
        server.user(user)
        server.pass_(password)
        count, _ = server.stat()
        for number in range(1, count + 1):
            _, lines, _ = server.retr(number)
            with open(path, "ab") as file:
                file.write(b"\n".join(lines) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            server.dele(number)
        server.quit()
    finally:
        server.close()
