// Node's own HTTP/2 client without TLS: `h2_client.js KIND HOST PORT SHAPE`. One JSON line for each exchange.
'use strict';
const http2 = require('node:http2');

const [kind, host, port, shape] = process.argv.slice(2);
const authority = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
const { NGHTTP2_CANCEL } = http2.constants;
// Left to itself, Node forgets the brackets of an IPv6 address.
const named = { ':authority': 'matrix.test' };

// A request whose answer is read to its end.
const ask = (session, behaviour, number, { method = 'GET', headers = {}, body, trailers } = {}) =>
  new Promise((resolve, reject) => {
    const path = `/${shape}/${behaviour}/${number}`;
    const line = { method, path, status: null, client_port: session.socket.localPort };
    const options = { endStream: body === undefined, waitForTrailers: trailers !== undefined };
    const stream = session.request({ ...named, ':method': method, ':path': `${path}?q=1`, ...headers }, options);
    stream.on('response', (answer) => { line.status = answer[':status']; });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('error', reject);
    stream.resume();
    stream.on('end', () => resolve(line));
    if (body !== undefined) stream.end(body);
  });

// A request that one side breaks off: the client when `leaves` says so, else the server.
const broken = (session, behaviour, number, leaves) => new Promise((resolve) => {
  const path = `/${shape}/${behaviour}/${number}`;
  const line = { method: 'GET', path, status: null, client_port: session.socket.localPort, outcome: 'aborted' };
  const stream = session.request({ ...named, ':path': path }, { endStream: true });
  stream.on('response', (answer) => { line.status = answer[':status']; });
  stream.on('data', () => { if (leaves === 'during') stream.close(NGHTTP2_CANCEL); });
  stream.on('error', () => {});
  stream.on('close', () => resolve(line));
  // Long enough for the request to have been sent: that there is no answer is what is broken off.
  if (leaves === 'before') setTimeout(() => stream.close(NGHTTP2_CANCEL), 20);
});

const trace = (number) => number.toString(16).padStart(32, '5');
const numbers = (count) => Array.from({ length: count }, (_, number) => number);

const kinds = {
  // One after the other, with what HTTP/2 does to heads: tables, long fields, continuations.
  async mixed(session) {
    const lines = [];
    for (const number of numbers(24)) {
      const behaviour = ['plain', 'missing', 'fail', 'medium', 'empty', 'unchanged'][number % 6];
      const trace_id = trace(number);
      const headers = { cookie: `a=${'c'.repeat(number * 1000)}`, traceparent: `00-${trace_id}-00f067aa0ba902b7-01` };
      const line = await ask(session, behaviour, number, { headers });
      lines.push({ ...line, trace_id });
    }
    return lines;
  },
  async bodies(session) {
    const lines = [];
    for (const number of numbers(6)) {
      const method = ['POST', 'PUT', 'HEAD'][number % 3];
      const body = method === 'HEAD' ? undefined : Buffer.alloc(number * 100000, 'b');
      // nginx resets the stream of a body that it did not wait for; this one it passes on.
      lines.push(await ask(session, 'medium', number, { method, body }));
    }
    return lines;
  },
  parallel: (session) => Promise.all(numbers(60).map((number) => ask(session, 'plain', number))),
  overtaken: (session) => Promise.all(numbers(20).map((number) => ask(session, 'overtaken', number))),
  async trailers(session) {
    const trailers = { 'x-check': '1' };
    const first = await ask(session, 'trailers', 0, { method: 'POST', body: 'some', trailers });
    return [first, await ask(session, 'trailers', 1), await ask(session, 'plain', 2)];
  },
  async interim(session) {
    return [await ask(session, 'interim', 0), await ask(session, 'plain', 1)];
  },
  async client_leaves(session) {
    const before = await broken(session, 'hang', 0, 'before');
    const during = await broken(session, 'big', 1, 'during');
    return [before, during, await ask(session, 'plain', 2)];
  },
  async server_leaves(session) {
    return [await broken(session, 'cut-chunked', 0), await ask(session, 'plain', 1)];
  },
  async server_refuses(session) {
    return [await broken(session, 'silent', 0), await ask(session, 'plain', 1)];
  },
  // The whole connection goes while streams are open.
  async connection_ends(session) {
    const first = await ask(session, 'plain', 0);
    const open = numbers(3).map((number) => broken(session, 'hang', number + 1));
    setTimeout(() => session.destroy(), 20);
    return [first, ...await Promise.all(open)];
  },
};

const session = http2.connect(authority);
session.on('error', (error) => { throw error; });
session.on('connect', async () => {
  for (const line of await kinds[kind](session)) console.log(JSON.stringify(line));
  if (!session.destroyed) session.close();
});
