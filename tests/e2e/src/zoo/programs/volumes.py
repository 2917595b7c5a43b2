import os, secrets, time

# A later life would begin at 1 again, and write another token.
with open("/one/new", "w") as file:
    file.write(secrets.token_hex(8))
os.rename("/one/new", "/one/token")
logs = [os.open(f"/{name}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("one", "two")]
n = 0
while True:
    n += 1
    for log in logs:
        os.write(log, f"{n}\n".encode())
        os.fsync(log)
    time.sleep(0.001)
