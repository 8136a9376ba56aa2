"""Reads systemd units and resolves their system call filters."""

import pathlib
import re
import subprocess

UNITS = pathlib.Path(__file__).resolve().parents[2] / "systemd"


def values(key, unit="imcallbackd.service"):
    """Returns the values of the key, one per line of the unit that sets it."""
    return re.findall(rf"(?m)^{key}=(.*)$", (UNITS / unit).read_text())


def system_calls(names):
    """Resolves names and @groups to system calls."""
    found = set()
    for word in names:
        if not word.startswith("@"):
            found.add(word)
            continue
        shown = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
        found |= system_calls(re.findall(r"(?m)^    ([^#\s]\S*)$", shown.stdout))
    return found


def allowed_system_calls(unit="imcallbackd.service"):
    default = system_calls(["@default"])
    allowed = set(default)
    for value in values("SystemCallFilter", unit):
        if value.startswith("~"):
            allowed -= system_calls(value[1:].split()) - default
        else:
            allowed |= system_calls(value.split())
    return allowed
