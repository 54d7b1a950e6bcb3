// HTTPS by Node, which carries OpenSSL inside: certificate, key, port.
const fs = require("fs");
const https = require("https");
const [certificate, key, port] = process.argv.slice(2);
const options = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
https
  .createServer(options, (request, response) => {
    let bytes = 0;
    request.on("data", (chunk) => (bytes += chunk.length));
    request.on("end", () => response.end(`read ${bytes}`));
  })
  .listen(Number(port), "127.0.0.1");
