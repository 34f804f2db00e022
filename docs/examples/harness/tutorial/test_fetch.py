import pytest
from fetch import fetch

from mailgate.testing import scenarios

MESSAGES = [f"Subject: message {number}\n\nhello {number}\n" for number in (1, 2, 3)]


def test_fetches_everything(mailgate, tmp_path):
    drop = mailgate.account("mrose", "secret")
    drop.add_all(MESSAGES)
    fetch(*mailgate.pop3, "mrose", "secret", tmp_path / "mail")
    assert (tmp_path / "mail").read_text() == "".join(MESSAGES)
    assert drop.messages == []
    assert mailgate.sessions[-1].verbs[-1] == "QUIT"


# what goes wrong
def test_loses_nothing(mailgate, tmp_path):
    drop = mailgate.account("mrose", "secret")
    drop.add_all(MESSAGES)
    mailgate.fault("error", command="RETR", occurrence=2)
    try:
        fetch(*mailgate.pop3, "mrose", "secret", tmp_path / "mail")
    except Exception as fault:
        print("the client gave up:", fault)
    assert_nothing_lost(drop, tmp_path / "mail")


def assert_nothing_lost(drop, path):
    saved = path.read_text(errors="replace") if path.exists() else ""
    left = [message.email["Subject"] for message in drop.messages]
    for number in (1, 2, 3):
        assert f"hello {number}\n" in saved or f"message {number}" in left, f"message {number} is lost"


# and in the library
@pytest.mark.parametrize("name", scenarios.names())
def test_survives(mailgate, tmp_path, name):
    drop = mailgate.account("mrose", "secret")
    drop.add_all(MESSAGES)
    mailgate.scenario(name, maildrops=["mrose"])
    try:
        fetch(*mailgate.pop3, "mrose", "secret", tmp_path / "mail")
    except Exception as fault:
        print("the client gave up:", fault)
    assert_nothing_lost(drop, tmp_path / "mail")
