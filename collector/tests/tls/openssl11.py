"""HTTPS through a shared OpenSSL 1.1, loaded by hand: folder of the libraries, certificate, key, port."""
import ctypes
import glob
import socket
import sys

folder, certificate, key, port = sys.argv[1:]
ctypes.CDLL(glob.glob(folder + "/libcrypto*.so.1.1")[0], mode=ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(glob.glob(folder + "/libssl*.so.1.1")[0])
POINTER, INT, BYTES = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p


def function(name, result, *arguments):
    found = getattr(library, name)
    found.restype, found.argtypes = result, arguments
    return found


method = function("TLS_server_method", POINTER)
context = function("SSL_CTX_new", POINTER, POINTER)(method())
function("SSL_CTX_use_certificate_file", INT, POINTER, BYTES, INT)(context, certificate.encode(), 1)
function("SSL_CTX_use_PrivateKey_file", INT, POINTER, BYTES, INT)(context, key.encode(), 1)
new, set_fd = function("SSL_new", POINTER, POINTER), function("SSL_set_fd", INT, POINTER, INT)
accept, free = function("SSL_accept", INT, POINTER), function("SSL_free", None, POINTER)
read = function("SSL_read", INT, POINTER, BYTES, INT)
write = function("SSL_write", INT, POINTER, BYTES, INT)
server = socket.create_server(("127.0.0.1", int(port)))
buffer = ctypes.create_string_buffer(16384)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\none point one"
while True:
    connection, _ = server.accept()
    session = new(context)
    set_fd(session, connection.fileno())
    if accept(session) == 1:
        while read(session, buffer, 16384) > 0:
            write(session, ANSWER, len(ANSWER))
    free(session)
    connection.close()
