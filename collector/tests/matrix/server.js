// Node's own HTTP server: `server.js PORT`. What a request asks for is the second part of its path.
'use strict';
const http = require('node:http');

const port = Number(process.argv[2]);
const big = Buffer.alloc(64000, 'e');
// Lets a part leave as a segment of its own.
const soon = (then) => setTimeout(then, 1);

const answers = {
  plain: (_, answer) => answer.end('ok\n'),
  medium: (_, answer) => answer.end('m'.repeat(20000)),
  missing: (_, answer) => answer.writeHead(404).end('no\n'),
  fail: (_, answer) => answer.writeHead(503).end('no\n'),
  empty: (_, answer) => answer.writeHead(204).end(),
  unchanged: (_, answer) => answer.writeHead(304, { etag: '"a"' }).end(),
  chunked: (_, answer) => {
    answer.write('HTTP/1.1');
    soon(() => { answer.write(' 200 OK\r\n\r\n'); soon(() => answer.end('last')); });
  },
  'chunked-big': (_, answer) => {
    for (let left = 40; left > 0; left -= 1) answer.write(big);
    answer.end();
  },
  trailers: (_, answer) => {
    answer.writeHead(200, { Trailer: 'X-Sum' });
    answer.write('some');
    answer.addTrailers({ 'X-Sum': '9' });
    soon(() => answer.end('more'));
  },
  interim: (_, answer) => {
    answer.writeProcessing();
    answer.writeEarlyHints({ link: '</a>; rel=preload' }, () => soon(() => answer.end('ok\n')));
  },
  // Without chunks to an HTTP/1.0 client, so the connection's end is the body's.
  close: (_, answer) => { answer.write('until'); soon(() => answer.end(' the end')); },
  cut: (_, answer) => {
    answer.writeHead(200, { 'Content-Length': 1000 });
    answer.write('only so much', () => soon(() => answer.socket.destroy()));
  },
  'cut-chunked': (_, answer) => answer.write('only so much', () => soon(() => answer.socket.destroy())),
  reset: (_, answer) => {
    answer.writeHead(200, { 'Content-Length': 1000 });
    answer.write('only so much', () => soon(() => answer.socket.resetAndDestroy()));
  },
  silent: (request) => request.socket.destroy(),
  hang: () => {},
  big: (_, answer) => {
    let left = 1000;
    answer.writeHead(200, { 'Content-Length': left * big.length });
    const more = () => {
      while (left > 0 && !answer.destroyed) {
        left -= 1;
        if (!answer.write(big)) {
          answer.once('drain', more);
          return;
        }
      }
      answer.end();
    };
    more();
  },
};

const respond = (request, answer) => {
  const behaviour = request.url.split('/')[2];
  if (behaviour === 'early') {
    answer.writeHead(413, { Connection: 'close' }).end('too much\n');
    return;
  }
  request.on('error', () => {});
  request.resume();
  request.on('end', () => answers[behaviour](request, answer));
};

const upgrade = (_, socket, rest) => {
  socket.on('error', () => {});
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n');
  socket.write(rest);
  socket.pipe(socket);
};

for (const host of ['127.0.0.1', '::1']) {
  const server = http.createServer({ keepAliveTimeout: 120000 }, respond);
  server.on('upgrade', upgrade);
  server.listen({ host, port, backlog: 4096 });
}
