"""Valid conversations to begin with, and the words that matter in them."""

from __future__ import annotations

from mailgate.kpop.sendauth import SENDAUTH_VERSION, framed
from tests.fuzz.mechanisms import coded, scram_responses

POP3_LINES = (b"USER mrose", b"PASS secret", b"CAPA", b"STAT", b"LIST", b"LIST 2", b"UIDL", b"UIDL 1",
              b"RETR 1", b"TOP 1 2",
              b"DELE 1", b"RSET", b"NOOP", b"LAST", b"*ENV 3", b"QUIT", b"AUTH", b"AUTH PLAIN", b"*", b"=",
              b"STLS",
              b"APOP mrose " + b"0" * 32, b"AUTH PLAIN " + coded(b"\0mrose\0secret"), b"AUTH LOGIN",
              b"AUTH CRAM-MD5",
              b"AUTH SCRAM-SHA-256 " + coded(b"n,,n=mrose,r=abc"), b"AUTH XOAUTH2 =", b"AUTH EXTERNAL =",
              b"AUTH GSSAPI",
              coded(b"T1!"), coded(b"mrose"), b"AUTH OAUTHBEARER " + coded(b"n,a=x,\1auth=Bearer a\1\1"),
              b"AUTH\tPLAIN")
POP3_SEEDS = tuple(b"\r\n".join((*lines, b"")) for lines in (
    (b"aCAPA", b"USER mrose", b"PASS secret", b"STAT", b"LIST", b"RETR 1", b"TOP 1 0", b"UIDL 2", b"DELE 3",
     b"*ENV 1", b"QUIT"),
    (b"tLIST", b"DELE 1", b"DELE 2", b"LIST", b"RSET", b"LAST", b"UIDL", b"NOOP", b"QUIT", b"STAT"),
    (b"aAUTH", b"AUTH PLAIN", coded(b"\0mrose\0secret"), b"STAT", b"QUIT"),
    (b"aAUTH LOGIN", coded(b"mrose"), coded(b"wrong"), b"AUTH CRAM-MD5", coded(b"mrose " + b"0" * 32),
     b"STAT"),
    (b"sUSER a", b"PASS b", b"AUTH XOAUTH2 " + coded(b"user=a\1auth=Bearer b\1\1"), b"=", b"XYZZY",
     b"XYZZY", b"XYZZY"),
    (b"aAUTH SCRAM-SHA-256 " + coded(scram_responses("sha256").split(b"\n")[0]),
     coded(scram_responses("sha256").split(b"\n")[1]), b"", b"STAT"),
    (b"aAUTH GSSAPI", b"", coded(b"T1"), coded(b"T2!"), b"", coded(b"W\1\0\0\0mrose"), b"STAT"),
    (b"aAUTH OAUTHBEARER", b"*", b"APOP mrose " + b"a" * 32, b"LIST"),
    (b"tTOP 1 99999999", b"RETR 4", b"RETR", b"TOP 1", b"LIST 0", b"NOOP x", b"QUIT"),
))
LMTP_SEEDS = tuple(b"\r\n".join((*lines, b"")) for lines in (
    (b"LHLO mx.example", b"MAIL FROM:<s@y> SIZE=100 BODY=8BITMIME", b"RCPT TO:<a@x>", b"RCPT TO:<full@x>",
     b"RCPT TO:<nobody@x>",
     b"DATA", b"Return-Path: <x>", b"A: 1", b"", b"..dot", b".", b"NOOP", b"QUIT"),
    (b"LHLO mx", b"MAIL FROM:<>", b"RCPT TO:<late@x>", b"RCPT TO:<late@x>", b"BDAT 6", b"A: 1",
     b"BDAT 4 LAST", b"hi", b"RSET"),
    (b"LHLO mx", "MAIL FROM:<ä@ö.example> SMTPUTF8".encode(), b"RCPT TO:<Postmaster>", b"BDAT 0 LAST",
     b"VRFY x", b"HELP"),
    (b"NOOP", b"STARTTLS", b"LHLO x"), (b"EHLO x", b"MAIL FROM:<a@b>", b"BDAT 5 LAST", b"abc", b"QUIT"),
    (b"LHLO mx", b"MAIL FROM:<s@y>", b"RCPT TO:<a@x>", b"DATA", b"x" * 400, b".", b"MAIL FROM:<s@y>"),
))
LMTP_WORDS = (b"LHLO x\r\n", b"MAIL FROM:<", b"RCPT TO:<a@x>\r\n", b"DATA\r\n", b"\r\n.\r\n", b"BDAT 3\r\n",
              b"BDAT 0 LAST\r\n", b"RSET\r\n",
              b"NOOP\r\n", b"SIZE=", b"SMTPUTF8", b"BODY=7BIT", b"Received: x\r\n", b"\r", b"\0", b"late@",
              b"full@", b"nobody@", b"LAST")
KPOP_SEED = framed(SENDAUTH_VERSION) + framed(b"KPOPV1.0\0") + framed(b"\x6e" + bytes(range(200)))

