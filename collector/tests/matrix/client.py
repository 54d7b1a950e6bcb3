"""Python's own HTTP client: `client.py HOST PORT SHAPE`. One JSON line for each exchange."""

import http.client
import json
import sys

host, port, shape = sys.argv[1], int(sys.argv[2]), sys.argv[3]
connection = http.client.HTTPConnection(host, port)
for number in range(12):
    method = ("GET", "POST", "HEAD")[number % 3]
    path = f"/{shape}/{'missing' if number % 4 == 3 else 'plain'}/{number}"
    # With a body, the library sends the head in a segment of its own.
    connection.request(method, path, body=b"b" * number * 100 if method == "POST" else None)
    client_port = connection.sock.getsockname()[1]
    answer = connection.getresponse()
    answer.read()
    line = {"method": method, "path": path, "status": answer.status, "client_port": client_port}
    print(json.dumps(line))
connection.close()
