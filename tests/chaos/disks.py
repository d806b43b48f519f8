"""Disks whose power can be cut, under the stores of a cluster's nodes: a real ext4 on a loop device over
power_disk (see power_disk.c). Runs in a mount namespace of its own (scripts/chaos), so nothing stays mounted."""

import os
import shutil
import subprocess
import time

from weir_cluster import binary, wait_until
from weir_net import NetCluster

MEBIBYTES = 2048  # Memory is taken as it is written.
INODES = 4096


def built(name):
    """A program or library of tests/chaos, from the build that the node is of."""
    where = os.path.dirname(os.path.dirname(os.path.realpath(binary())))
    return os.path.join(where, "tests", "chaos", name)


class PowerDisk:
    def __init__(self, folder, at):
        """@folder is its own; the file system is mounted on @at."""
        self.folder, self.at = folder, at
        self.is_mounted = False
        self.is_off = self.is_lying = False
        os.makedirs(folder, exist_ok=True)
        os.makedirs(at, exist_ok=True)
        self.image = os.path.join(folder, "disk")
        self.process = subprocess.Popen([built("power_disk"), folder, str(MEBIBYTES)])
        wait_until("the disk at " + folder, lambda: os.path.exists(self.image), 10)
        self.control = os.open(os.path.join(folder, "control"), os.O_RDWR)
        self.seen = self.figures()
        # Content is zero already; a discard would be a write.
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(INODES), "-E",
                        "nodiscard,assume_storage_prezeroed=1", self.image], check=True, stdout=subprocess.DEVNULL)
        self.mount()

    def tell(self, text):
        os.pwrite(self.control, text.encode(), 0)

    def figures(self):
        lines = os.pread(self.control, 1000, 0).decode().splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}

    def mount(self):
        for left in range(20, -1, -1):  # Two that look for a free loop device may find the same.
            done = subprocess.run(["mount", "-t", "ext4", "-o", "loop", self.image, self.at],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode == 0:
                self.is_mounted = True
                return
            if left == 0:
                raise AssertionError("mount of %s: %s" % (self.image, done.stdout))
            time.sleep(0.1)

    def unmount(self):
        """Nothing may have a file open there, but a node that was killed a moment ago may still end."""
        def is_done():
            return subprocess.run(["umount", self.at], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL).returncode == 0
        if self.is_mounted:
            wait_until("%s to be unmounted" % self.at, is_done, 20, 0.02)
            self.is_mounted = False

    def cut(self, rng):
        """The power goes, at once."""
        # Parts of what a lying disk has lost are no file system.
        likelihood = 0 if self.is_lying else rng.choice((0, 0, 100, 500, 900))
        self.tell("cut %d %d" % (rng.randrange(1 << 32), likelihood))
        self.is_off = True

    def lost(self):
        """(sectors lost, sectors that stayed without a sync) since the last time."""
        before, self.seen = self.seen, self.figures()
        return self.seen["dropped"] - before["dropped"], self.seen["kept"] - before["kept"]

    def lie(self):
        """From now on syncs do nothing."""
        self.is_lying = True
        self.tell("lie")

    def restore(self):
        """The power is back, and the file system recovers from its journal."""
        self.unmount()
        self.tell("on")
        self.is_off = False
        self.mount()

    def close(self):
        os.close(self.control)
        for at in (self.at, self.folder):
            subprocess.run(["umount", at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for at in (self.at, self.folder):  # What was still busy.
            subprocess.run(["umount", "-l", at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class DiskCluster(NetCluster):
    """Each node has .disk, and its store lies on it."""

    NEEDS = "root, ip, FUSE, loop devices, mkfs.ext4 and a build with libfuse3"

    @staticmethod
    def is_possible():
        return (NetCluster.is_possible() and os.path.exists(built("power_disk")) and os.path.exists("/dev/fuse")
                and os.path.exists("/dev/loop-control") and shutil.which("mkfs.ext4") is not None)

    def start(self):
        for node in self.nodes:
            node.disk = PowerDisk(os.path.join(self.folder, node.name + ".disk"),
                                  os.path.join(node.folder, "js"))
        return super().start()

    def __exit__(self, kind, value, trace):
        try:
            for node in self.nodes:  # The folders can go once they are no mounts any more.
                if kind is None:
                    node.stop()
                else:
                    node.kill()
            for node in self.nodes:
                if hasattr(node, "disk"):
                    node.disk.close()
        finally:
            super().__exit__(kind, value, trace)
