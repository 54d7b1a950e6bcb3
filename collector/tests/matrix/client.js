// Node's own HTTP client: `client.js HOST PORT SHAPE`. One JSON line for each exchange.
'use strict';
const http = require('node:http');

const [host, port, shape] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });

const ask = (number) => new Promise((resolve, reject) => {
  const method = ['GET', 'POST', 'HEAD'][number % 3];
  const path = `/${shape}/${number % 4 === 3 ? 'missing' : 'plain'}/${number}`;
  const headers = method === 'POST' ? { 'Content-Length': number * 100 } : {};
  const request = http.request({ host, port, agent, method, path, headers }, (answer) => {
    const client_port = answer.socket.localPort;
    answer.resume();
    answer.on('end', () => {
      console.log(JSON.stringify({ method, path, status: answer.statusCode, client_port }));
      resolve();
    });
  });
  request.on('error', reject);
  request.end(method === 'POST' ? 'b'.repeat(number * 100) : undefined);
});

Promise.all(Array.from({ length: 12 }, (_, number) => ask(number))).then(() => agent.destroy());
