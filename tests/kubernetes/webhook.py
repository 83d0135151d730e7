"""A webhook of a cluster: forbids the pods that it is asked about, or puts a sidecar into them that asks for every right.

Arguments: what it does (`forbid` or `sidecar`), and the files of its certificate and key. It prints its port.
"""

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

does, certificate, key = sys.argv[1:]
SIDECAR = {"name": "sidecar", "image": "emberline.test/none:1", "securityContext": {"privileged": True}}


def verdict():
    if does == "forbid":
        return {"allowed": False, "status": {"message": "not on a Friday"}}
    patch = json.dumps([{"op": "add", "path": "/spec/containers/-", "value": SIDECAR}])
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}


class Review(BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = {"uid": review["request"]["uid"]} | verdict()
        answer = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Review)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
