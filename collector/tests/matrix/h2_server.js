// Node's own HTTP/2 server without TLS: `h2_server.js PORT`. What a request asks for is the second part of its path.
'use strict';
const http2 = require('node:http2');

const port = Number(process.argv[2]);
const big = Buffer.alloc(8000000, 'e');
const { NGHTTP2_INTERNAL_ERROR } = http2.constants;
const end = (status, text) => (stream) => {
  stream.respond({ ':status': status });
  stream.end(text);
};

const answers = {
  plain: end(200, 'ok\n'),
  missing: end(404, 'no\n'),
  fail: end(503, 'no\n'),
  medium: end(200, 'm'.repeat(20000)),
  empty: (stream) => stream.respond({ ':status': 204 }, { endStream: true }),
  unchanged: (stream) => stream.respond({ ':status': 304 }, { endStream: true }),
  interim: (stream) => { stream.additionalHeaders({ ':status': 103, link: '</a>' }); end(200, 'ok\n')(stream); },
  trailers: (stream) => {
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '9' }));
    stream.end('ok\n');
  },
  // Answers overtake each other: the later the request, the sooner the answer.
  overtaken: (stream, path) => {
    const number = Number(path.split('/')[3]);
    setTimeout(() => end(200, 'ok\n')(stream), 30 - number);
  },
  silent: (stream) => stream.close(NGHTTP2_INTERNAL_ERROR),
  hang: () => {},
  big: (stream) => { stream.respond({ ':status': 200 }); stream.end(big); },
};

for (const host of ['127.0.0.1', '::1']) {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    const path = headers[':path'].split('?')[0];
    stream.on('error', () => {});
    stream.resume();
    stream.on('end', () => answers[path.split('/')[2]](stream, path));
  });
  server.listen({ host, port, backlog: 4096 });
}
