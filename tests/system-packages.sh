#!/bin/sh
# Install the programs that the tests use as real peers, when this can be done here: Debian, as root.
# Elsewhere say what is missing; the tests that need it are skipped and name the same command.
set -eu
missing=""
for program in fetchmail curl mpop openssl sqlite3 strace chromium; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
for pair in krb5kdc:krb5-kdc kdb5_util:krb5-kdc kadmin.local:krb5-admin-server kinit:krb5-user unshare:util-linux \
    fail2ban-regex:fail2ban haproxy:haproxy slapd:slapd ldapmodify:ldap-utils gcc:gcc pop3d:mailutils-pop3d \
    saslpasswd2:sasl2-bin dotlockfile:liblockfile-bin procmail:procmail pgbouncer:pgbouncer \
    node:nodejs java:default-jdk-headless; do
    (PATH="$PATH:/usr/sbin:/sbin"; command -v "${pair%%:*}" >/dev/null 2>&1) || missing="$missing ${pair#*:}"
done
# A mail server wants a program that sends: the smallest there is, unless one is there.
(PATH="$PATH:/usr/sbin:/sbin"; command -v cyrmaster >/dev/null 2>&1) || {
    missing="$missing cyrus-common libsasl2-modules-db"
    (PATH="$PATH:/usr/sbin:/sbin"; command -v sendmail >/dev/null 2>&1) || missing="$missing dma"
}
[ -e /usr/lib/dovecot/pop3 ] || missing="$missing dovecot-pop3d"
# python-ldap comes as source
for header in /usr/include/ldap.h:libldap2-dev /usr/include/sasl/sasl.h:libsasl2-dev /usr/include/stdio.h:libc6-dev; do
    [ -e "${header%%:*}" ] || missing="$missing ${header#*:}"
done
"${PYTHON:-python3}" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
    missing="$missing python3-dev"
perl -MNet::POP3 -e 1 2>/dev/null || missing="$missing perl"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    apt-get install -q -y --no-install-recommends $missing >/dev/null
else
    echo "some tests will be skipped; to run them: apt-get install$missing" >&2
fi
