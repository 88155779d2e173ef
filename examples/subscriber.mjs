// Prints every event of a running program, in order, once.
//
//     npm install zeromq@6
//     node examples/subscriber.mjs [tcp://127.0.0.1:5555 [tcp://127.0.0.1:5556 [SINCE]]]
//
// SINCE is a `seq`: what came after it is printed first. Without it: only what comes next.
import { Dealer, Subscriber } from "zeromq";

const [events = "tcp://127.0.0.1:5555", replay = "tcp://127.0.0.1:5556", since] =
  process.argv.slice(2);
const ASK_AGAIN_MS = 2000;

let log; // `seq` counts within one log
let last = since === undefined ? undefined : Number(since);

const heard = new Subscriber();
heard.connect(events);
heard.subscribe("action/"); // topics end with a slash
const asked = new Dealer();
asked.connect(replay);

let sending = Promise.resolve(); // one message at a time
function ask() {
  // Nothing known yet: only where the log ends.
  const request = { request: "replay", since: last ?? Number.MAX_SAFE_INTEGER };
  sending = sending.then(() => asked.send(JSON.stringify(request)));
}

function show(event) {
  const { seq, start_time, camera, type, label, score } = event;
  console.log(seq, start_time, camera, type, label, score);
  last = seq;
}

async function listen() {
  for await (const [, body] of heard) {
    const event = JSON.parse(body.toString());
    if (last !== undefined && event.log === log && event.seq === last + 1) show(event);
    else if (last === undefined || event.log !== log || event.seq > last) ask(); // a hole
  }
}

async function fill() {
  for await (const [body] of asked) {
    const answer = JSON.parse(body.toString());
    if (answer.error !== undefined) continue;
    if (last === undefined) last = answer.seq;
    else if (log !== undefined && answer.log !== log) last = 0; // the program began a new log
    const isNew = answer.log !== log;
    log = answer.log;
    for (const event of answer.events) if (event.seq > last) show(event);
    if (isNew || (answer.events.length && last < answer.seq)) ask();
  }
}

// Ask now and then even when nothing seems missing: the last event may be the lost one.
setInterval(ask, ASK_AGAIN_MS);
ask();
await Promise.all([listen(), fill()]);
