#!/bin/sh
# Test a mail client with a shell and curl: `sh client.sh`
set -eu

# The harness closes its output once it is ready, and so ends the substitution. It ends with this shell.
about=$(mailgate harness --parent $$ --account mrose:secret &)

field() {       # NAME: a text or number of the JSON that is read
    sed -n "s/.*\"$1\": \"\{0,1\}\([^\",}]*\).*/\1/p"
}
api=$(echo "$about" | field api)
token=$(echo "$about" | field token)
port=$(echo "$about" | field pop3)

ask() {         # METHOD PATH [BODY]
    method=$1 path=$2
    shift 2
    curl --silent --show-error --fail --max-time 10 --request "$method" "$api$path" \
        --header "Authorization: Bearer $token" --header 'Content-Type: application/json' ${1+--data "$1"}
}

# The client that is tested: fetch a message, and delete it if it was fetched.
fetch_mail() {  # NUMBER
    url=pop3://127.0.0.1:$port
    if curl --silent --max-time 10 --user mrose:secret "$url/$1" || [ -n "${BROKEN_CLIENT:-}" ]; then
        curl --silent --max-time 10 --user mrose:secret --request DELE --list-only "$url/$1"
    fi
}

one=$(ask POST /maildrops/mrose/messages '{"content": "Subject: one\n\nhello\n"}' | field unique_id)
ask POST /faults '{"do": "error", "command": "RETR", "session": 1, "code": "SYS/TEMP"}' >/dev/null

[ -z "$(fetch_mail 1)" ]
ask GET '/sessions?wait=idle' >/dev/null
ask GET "/maildrops/mrose/messages/$one" >/dev/null || {
    echo "a message that cannot be fetched stays" >&2
    exit 1
}

[ "$(fetch_mail 1 | tr -d '\r')" = "$(printf 'Subject: one\n\nhello')" ]       # now it can be
ask GET '/sessions/latest?wait=ended' | grep -q "\"deleted\": \[\"$one\"\]"
echo ok
