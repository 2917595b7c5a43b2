import mmap, os, secrets, time

# A later life would begin at 1 again, and write another token.
with open("/one/new", "w") as file:
    file.write(secrets.token_hex(8))
os.rename("/one/new", "/one/token")
logs = [os.open(f"/{name}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("one", "two")]
# Written through memory alone: the kernel puts it into the file when it likes.
mapped_file = os.open("/two/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(mapped_file, 4096)
mapped, known = mmap.mmap(mapped_file, 4096), bytearray(4096)
n = 0
while True:
    n += 1
    if mapped[:] != known:
        os.write(logs[0], b"the mapped file is not what was written to it\n")
    mapped[n % 4096] = known[n % 4096] = n // 4096 * 7 + n & 255
    for log in logs:
        os.write(log, f"{n}\n".encode())
        os.fsync(log)
    time.sleep(0.001)
