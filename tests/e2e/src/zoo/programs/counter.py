import http.server, secrets, sys, threading

token = secrets.token_hex(8)
lock = threading.Lock()
count = 0


class Counter(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = f"{token} {count}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        global count
        with lock:
            count += 1
        self.answer()

    do_GET = answer

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Counter).serve_forever()
