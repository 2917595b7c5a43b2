import hashlib, os, secrets, shutil, stat, struct, sys, time

# In the writable layer, and in a volume.
ROOTS = ["/tree", "/kept"]
# The engine puts these into every container itself.
ENGINES = {"/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf"}


def acl(permissions):
    entries = [(1, 7, -1), (2, permissions, 1234), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def write(path, content=b""):
    with open(path, "wb") as file:
        file.write(content)


def build(root):
    os.makedirs(f"{root}/.dots/.deep/empty", exist_ok=True)
    write(f"{root}/.dots/.hidden", b"x")
    write(os.fsencode(root) + b"/.dots/\xff\xfe odd\nname", b"y")
    write(f"{root}/one", secrets.token_bytes(3 << 20))
    os.makedirs(f"{root}/sub")
    os.link(f"{root}/one", f"{root}/two")
    os.link(f"{root}/one", f"{root}/sub/three")
    for name, to in [("relative", "sub"), ("dangling", "no/where"), ("absolute", "/etc/passwd")]:
        os.symlink(to, f"{root}/{name}")
    with open(f"{root}/sparse", "wb") as file:
        file.truncate(64 << 20)
        file.seek(40 << 20)
        file.write(b"in the middle of nothing")
    os.mkfifo(f"{root}/pipe", 0o640)
    os.mkdir(f"{root}/sticky")
    os.chmod(f"{root}/sticky", 0o1777)
    os.mkdir(f"{root}/group")
    os.chmod(f"{root}/group", 0o2750)
    write(f"{root}/nobody", b"z")
    os.chown(f"{root}/nobody", 1234, 4321)
    os.chmod(f"{root}/nobody", 0)
    write(f"{root}/setuid", b"s")
    os.chmod(f"{root}/setuid", 0o4755)
    os.setxattr(f"{root}/one", "user.sterna", b"\0\1\2")
    write(f"{root}/listed")
    os.setxattr(f"{root}/listed", "system.posix_acl_access", acl(5))
    os.setxattr(f"{root}/sub", "system.posix_acl_default", acl(6))
    write(f"{root}/able")
    os.setxattr(f"{root}/able", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    os.symlink("x", f"{root}/old")
    os.utime(f"{root}/old", ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.utime(f"{root}/group", ns=(1, 987_654_321_012_345_678))


# What a service does to its files between two moves; each time something else.
def change(turn):
    for root in ROOTS:
        if turn == 1:
            os.unlink(f"{root}/two")
            shutil.rmtree(f"{root}/.dots/.deep")
            write(f"{root}/.dots/.deep", b"a file where a folder was")
            os.removexattr(f"{root}/one", "user.sterna")
            os.setxattr(f"{root}/listed", "system.posix_acl_access", acl(0))
        if turn == 2:
            os.unlink(f"{root}/.dots/.deep")
            os.mkdir(f"{root}/.dots/.deep")
            os.rename(f"{root}/setuid", f"{root}/nobody")
            os.unlink(f"{root}/relative")
            os.mkdir(f"{root}/relative")
            with open(f"{root}/sparse", "r+b") as file:
                file.seek(1)
                file.write(b"early")
                file.truncate(50 << 20)
            with open(f"{root}/sub/three", "r+b") as file:
                file.write(b"through another name")
    if turn == 1:
        write("/etc/debian_version", b"back again")
        shutil.rmtree("/etc/skel")
    if turn == 2:
        os.unlink("/etc/debian_version")
        os.mkdir("/etc/skel")


def look():
    first = {}
    for top in [*ROOTS, "/etc"]:
        for folder, folders, files in os.walk(os.fsencode(top)):
            folders.sort()
            for name in [b"", *sorted(folders), *sorted(files)]:
                path = os.path.join(folder, name) if name else folder
                if os.fsdecode(path) in ENGINES or (top == "/etc" and path == b"/etc"):
                    continue
                seen = os.lstat(path)
                kind = stat.S_IFMT(seen.st_mode)
                line = [repr(path), oct(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime_ns]
                if kind == stat.S_IFLNK:
                    line.append(os.readlink(path))
                if kind == stat.S_IFREG:
                    with open(path, "rb") as file:
                        line += [seen.st_size, hashlib.sha256(file.read()).hexdigest(), seen.st_nlink]
                    line.append(first.setdefault(seen.st_ino, path))
                    line.append("sparse" if seen.st_blocks * 512 < seen.st_size // 4 else "whole")
                for attribute in sorted(os.listxattr(path, follow_symlinks=False)):
                    line += [attribute, os.getxattr(path, attribute, follow_symlinks=False).hex()]
                print(*line)


def serve():
    for root in ROOTS:
        build(root)
    # Gone from the image, and replaced with something that has nothing of it.
    os.unlink("/etc/debian_version")
    shutil.rmtree("/etc/skel")
    os.mkdir("/etc/skel")
    write("/etc/skel/new", b"n")
    os.chmod("/etc/issue", 0o600)
    # A later life would fail above, and say another word.
    token = secrets.token_bytes(8).hex().encode()
    while True:
        write("/said.new", token)
        os.rename("/said.new", "/said")
        time.sleep(0.1)


{"serve": serve, "look": look, "change": lambda: change(int(sys.argv[2]))}[sys.argv[1]]()
