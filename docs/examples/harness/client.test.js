// Test a mail client with Node's own test runner: `node --test client.test.js`
"use strict";
const assert = require("node:assert/strict");
const { once } = require("node:events");
const net = require("node:net");
const readline = require("node:readline");
const { spawn } = require("node:child_process");
const { after, before, test } = require("node:test");

let harness; // the process
let about; // what it told: ports, ca_file, api, token ...

before(async () => {
  harness = spawn("mailgate", ["harness", "--account", "mrose:secret"], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(readline.createInterface({ input: harness.stdout }), "line");
  about = JSON.parse(line);
});

after(async () => {
  harness.stdin.end(); // it ends with its input; if this process dies, that is closed as well
  await once(harness, "exit");
});

async function ask(method, path, body) {
  const response = await fetch(about.api + path, {
    method,
    headers: { Authorization: `Bearer ${about.token}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${text}`);
  return text ? JSON.parse(text) : null;
}

// The client that is tested: fetch all mail, and delete what was fetched.
async function fetchMail(host, port, user, password) {
  const socket = net.connect(port, host);
  const lines = readline.createInterface({ input: socket, crlfDelay: Infinity })[Symbol.asyncIterator]();
  const read = async () => (await lines.next()).value;
  const say = async (command) => {
    socket.write(command + "\r\n");
    return read();
  };
  const fetched = [];
  await read(); // the greeting
  await say(`USER ${user}`);
  await say(`PASS ${password}`);
  const count = Number((await say("STAT")).split(" ")[1]);
  for (let number = 1; number <= count; number += 1) {
    if ((await say(`RETR ${number}`)).startsWith("+OK")) {
      const message = [];
      for (let line = await read(); line !== "."; line = await read()) message.push(line.replace(/^\./, ""));
      fetched.push(message.join("\n"));
    } else if (!process.env.BROKEN_CLIENT) {
      continue; // try again the next time
    }
    await say(`DELE ${number}`);
  }
  await say("QUIT");
  socket.end();
  return fetched;
}

test("a message that cannot be fetched stays", async () => {
  const ids = [];
  for (const subject of ["one", "two"]) {
    const content = `Subject: ${subject}\n\nhello\n`;
    ids.push((await ask("POST", "/maildrops/mrose/messages", { content })).unique_id);
  }
  await ask("POST", "/faults", { do: "error", command: "RETR 1", code: "SYS/TEMP" });

  const fetched = await fetchMail(about.host, about.ports.pop3, "mrose", "secret");

  assert.deepEqual(fetched, ["Subject: two\n\nhello"]);
  const session = await ask("GET", "/sessions/latest?wait=ended");
  assert.equal(session.end, "QUIT");
  assert.deepEqual(session.deleted, [ids[1]]);
});
