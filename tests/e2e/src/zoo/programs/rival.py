import fcntl, os, struct


def held(name, take):
    file = os.open(f"/data/{name}", os.O_RDWR)
    try:
        take(file)
        return f"{name} free"
    except BlockingIOError:
        return f"{name} held"


def ofd(file):
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


print(
    held("flock", lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)),
    held("posix", lambda file: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 14)),
    held("ofd", ofd),
    sep=", ",
)
