import fcntl, http.server, os, resource, secrets, struct, sys

token = secrets.token_hex(8)
count = 10_000
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, max(count + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
os.makedirs("/data")
files = []
for i in range(count):
    file = os.open(f"/data/{i}", os.O_RDWR | os.O_CREAT)
    os.write(file, b"%08d" % i * 4)
    os.lseek(file, i % 32, os.SEEK_SET)
    files.append(file)


def lock(name):
    return os.open(f"/data/{name}", os.O_RDWR | os.O_CREAT)


flock, posix, ofd = lock("flock"), lock("posix"), lock("ofd")
fcntl.flock(flock, fcntl.LOCK_EX)
fcntl.lockf(posix, fcntl.LOCK_EX, 10, 5)
fcntl.fcntl(ofd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))

# Open, but deleted: its content is nowhere else.
ghost = os.open("/data/ghost", os.O_RDWR | os.O_CREAT)
content = secrets.token_bytes(4 << 20)
os.write(ghost, content)
os.unlink("/data/ghost")


def wrong(i):
    file, at = files[i], i % 32
    if os.lseek(file, 0, os.SEEK_CUR) != at or os.readlink(f"/proc/self/fd/{file}") != f"/data/{i}":
        return True
    return os.pread(file, 32 - at, at) != (b"%08d" % i * 4)[at:]


class Files(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        whole = "whole" if os.pread(ghost, len(content) + 1, 0) == content else "spoilt"
        right = sum(not wrong(i) for i in range(count))
        body = f"{token} {right} files as they were, the deleted one {whole}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.HTTPServer(("", int(sys.argv[1])), Files).serve_forever()
