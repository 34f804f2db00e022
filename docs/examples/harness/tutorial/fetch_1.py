import poplib


def fetch(host, port, user, password, path):
    """Append all messages of a maildrop to a file, and delete them on the server."""
    server = poplib.POP3(host, port, timeout=5)
    messages = []
    try:
        server.user(user)
        server.pass_(password)
        count, _ = server.stat()
        for number in range(1, count + 1):
            _, lines, _ = server.retr(number)
            messages.append(b"\n".join(lines) + b"\n")
            server.dele(number)
    finally:
        server.quit()
    with open(path, "ab") as file:
        file.writelines(messages)
