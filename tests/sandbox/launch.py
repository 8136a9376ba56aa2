"""launch.py CALLS COMMAND...: runs a daemon under the restrictions of its systemd unit, without root or systemd.

seccomp permits only the system calls in the file CALLS, a few of them only with certain arguments. Landlock permits
writes only to /dev/null and in the directory of the configuration file, which is the last word of COMMAND. Both survive
exec. The daemon inherits its listening sockets, since it may not create them."""

import ctypes
import errno
import fcntl
import os
import pathlib
import re
import socket
import sys

import unit

LISTEN_FDS_START = 3

PR_SET_NO_NEW_PRIVS = 38
SCMP_ALLOW, SCMP_ERRNO = 0x7FFF0000, 0x00050000
SCMP_EQUAL, SCMP_MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
# restrict_calls permits these calls only with certain arguments, or not at all.
BY_ARGUMENT = {"socket", "mmap", "mprotect", "pkey_mprotect", "shmat"}

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_WRITES = 0x1FF2  # all rights of Landlock's first ABI except to execute and to read files and directories
LANDLOCK_WRITE_FILE = 0x2


class Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("one", ctypes.c_uint64),
                ("two", ctypes.c_uint64)]


class PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("directory", ctypes.c_int32)]


libc = ctypes.CDLL(None, use_errno=True)


def must(result, what):
    if result < 0:
        sys.exit(f"launch.py: {what}: {os.strerror(ctypes.get_errno() or -result)}")
    return result


def restrict_files(directory):
    handled = ctypes.c_uint64(LANDLOCK_WRITES)
    rules = must(libc.syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0), "Landlock")
    for path, access in ((directory, LANDLOCK_WRITES), ("/dev/null", LANDLOCK_WRITE_FILE)):
        rule = PathRule(access, os.open(path, os.O_PATH))
        must(libc.syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0), path)
    must(libc.syscall(LANDLOCK_RESTRICT_SELF, rules, 0), "Landlock")


def restrict_calls(allowed):
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(SCMP_ERRNO | errno.EPERM))

    def allow(name, *comparisons):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # unknown to this libseccomp, so it stays forbidden
            return
        array = (Comparison * len(comparisons))(*comparisons)
        must(seccomp.seccomp_rule_add_array(context, SCMP_ALLOW, number, len(comparisons), array), name)

    for name in sorted(allowed - BY_ARGUMENT):
        allow(name)
    for family in unit.values("RestrictAddressFamilies")[0].split():
        allow("socket", Comparison(0, SCMP_EQUAL, getattr(socket, family)))
    # MemoryDenyWriteExecute=
    allow("mprotect", Comparison(2, SCMP_MASKED_EQUAL, PROT_EXEC, 0))
    allow("mmap", Comparison(2, SCMP_MASKED_EQUAL, PROT_EXEC, 0))
    allow("mmap", Comparison(2, SCMP_MASKED_EQUAL, PROT_EXEC | PROT_WRITE, PROT_EXEC))
    must(seccomp.seccomp_load(context), "seccomp")


def pass_listeners(config):
    """Creates the sockets of the sections [listen] and, if it has a port, [admin], and passes them as systemd does."""
    passed = []
    for section, name in (("listen", "callback"), ("admin", "admin")):
        keys = dict(re.findall(r"(?m)^(\w+) *= *(.*?) *$", config.partition(f"[{section}]\n")[2].partition("\n[")[0]))
        if section == "admin" and keys.get("port", "0") == "0":
            continue
        address = keys.get("address", "0.0.0.0")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, int(keys["port"])), family=family, backlog=4096,
                                        dualstack_ipv6=address == "::")
        passed.append((name, listener.detach()))
    # The sockets move to higher numbers first, because one of them may have the number that another one gets.
    copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, LISTEN_FDS_START + len(passed)) for _, number in passed]
    for i, copy in enumerate(copies):
        os.dup2(copy, LISTEN_FDS_START + i)
    os.environ |= {"LISTEN_FDS": str(len(passed)), "LISTEN_PID": str(os.getpid()),
                   "LISTEN_FDNAMES": ":".join(name for name, _ in passed)}


def main():
    calls, *command = sys.argv[1:]
    if "LISTEN_FDS" not in os.environ:
        pass_listeners(pathlib.Path(command[-1]).read_text())
    must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    restrict_files(pathlib.Path(command[-1]).parent)
    restrict_calls(set(pathlib.Path(calls).read_text().split()))
    os.execvp(command[0], command)


main()
