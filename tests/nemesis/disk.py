"""A small file system in memory for one directory, which a fault can fill or make read-only. Without root there is no
such file system: the directory is an ordinary one, and these faults are left out."""

import contextlib
import os
import subprocess

from processes import check_run, eventually

SIZE_MIB = 192
IS_POSSIBLE = os.geteuid() == 0


class Disk:
    """A directory. The file system lives until destroy()."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir(parents=True)
        self.is_mounted = IS_POSSIBLE
        if IS_POSSIBLE:  # a failure ends the run: a fault would fill the disk of the machine
            check_run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0755", "tmpfs", directory)

    @contextlib.contextmanager
    def full(self):
        """Leaves no free block during the block."""
        filler = self.directory / "filler"
        with filler.open("wb") as file, contextlib.suppress(OSError):
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
        try:
            yield
        finally:
            filler.unlink()

    def set_read_only(self, is_read_only):
        """The kernel refuses the change while a file is open for writing, so the processes must have ended."""
        check_run("mount", "-o", "remount," + ("ro" if is_read_only else "rw"), self.directory)

    def destroy(self):
        if self.is_mounted:
            eventually(lambda: subprocess.run(["umount", self.directory], capture_output=True).returncode == 0,
                       f"{self.directory} is not in use", 20)
            self.is_mounted = False
