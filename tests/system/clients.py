"""The official clients: fetched and built into build/clients, in the versions that tests/clients pins.

    program = clients.get("go")       # a list: the command, to which arguments are added
    program = clients.get("cli")

What lacks its toolchain is Missing: its tests are skipped by name; with CI set that is a failure.
`clients.py` alone fetches all and says what is missing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

from weir_cluster import ROOT

NAMES = ("py", "js", "go", "cli")
SKIPPED = 77  # Exit code that ctest shows as skipped.

_SOURCES = os.path.join(ROOT, "tests", "clients")
_BUILD = os.path.join(ROOT, "build", "clients")


class Missing(Exception):
    pass


def _tool(name, *more):
    path = os.environ["PATH"] + os.pathsep + os.pathsep.join(more)
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing("%s is not installed" % name)
    return found


def _run(*command, cwd=None, env=None):
    done = subprocess.run(command, cwd=cwd, env=dict(os.environ, **(env or {})), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200)
    if done.returncode != 0:
        raise RuntimeError("%s:\n%s" % (" ".join(command), done.stdout[-3000:]))
    return done.stdout


def _source(*names):
    return os.path.join(_SOURCES, *names)


def _stamp(folder, *files):
    """The stamp file of what was fetched for these files, and whether it is there and right."""
    hash = hashlib.sha256()
    for name in files:
        with open(name, "rb") as f:
            hash.update(f.read())
    path = os.path.join(folder, "stamp")
    try:
        with open(path) as f:
            return path, hash.hexdigest(), f.read() == hash.hexdigest()
    except OSError:
        return path, hash.hexdigest(), False


def _fresh(folder, files, make):
    """Calls make() in an empty folder unless the folder was made from the same files."""
    path, value, is_right = _stamp(folder, *files)
    if not is_right:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        make()
        with open(path, "w") as f:
            f.write(value)


def _get_py():
    folder = os.path.join(_BUILD, "py")
    python = os.path.join(folder, "bin", "python3")
    wanted = _source("py", "requirements.txt")

    def make():
        _run("/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable,
             "-m", "venv", folder)
        _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", wanted)
    _fresh(folder, [wanted], make)
    return [python, _source("py", "weir_py.py")]


def _get_js():
    """Node resolves packages upwards from the program's own folder, so the program is copied."""
    node, npm = _tool("node"), _tool("npm")
    folder = os.path.join(_BUILD, "js")
    wanted = [_source("js", n) for n in ("package.json", "package-lock.json")]

    def make():
        for name in wanted:
            shutil.copy(name, folder)
        _run(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
    _fresh(folder, wanted, make)
    for name in os.listdir(_source("js")):
        if name.endswith(".mjs"):
            shutil.copy(_source("js", name), folder)
    return [node, os.path.join(folder, "weir_js.mjs")]


def _get_go():
    go = _tool("go", "/usr/local/go/bin")
    program = os.path.join(_BUILD, "weir_go")
    _run(go, "build", "-o", program, ".", cwd=_source("go"), env={"GOFLAGS": "-mod=readonly"})
    return [program]


def _get_cli():
    try:
        return [_run(os.path.join(ROOT, "scripts", "peers")).split()[-1]]
    except RuntimeError as e:
        if "missing" in str(e):
            raise Missing(str(e).strip().splitlines()[-1])
        raise


def get(name):
    os.makedirs(_BUILD, exist_ok=True)
    with open(os.path.join(_BUILD, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {"py": _get_py, "js": _get_js, "go": _get_go, "cli": _get_cli}[name]()


def get_or_skip(name, what):
    """None when its toolchain is missing; with CI set that is an error."""
    try:
        return get(name)
    except Missing as e:
        if os.environ.get("CI"):
            raise
        print("skipped: %s with %s: %s" % (what, name, e), flush=True)
        return None


if __name__ == "__main__":
    for client in NAMES:
        try:
            print("%s: %s" % (client, " ".join(get(client))))
        except Missing as e:
            print("%s: missing: %s" % (client, e))
