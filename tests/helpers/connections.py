"""Which addresses a program reaches for, by the system calls of all its threads and children."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

CALLS = "connect,sendto,sendmsg,sendmmsg"
"""All by which a process can reach another machine, names being asked for included."""
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
DNS_PORT = 53


def tracer() -> list[str]:
    """Command that runs another one and notes its calls; the test is skipped where that cannot be."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed, by which connections are seen")
    if subprocess.run([path, "-f", "-e", f"trace={CALLS}", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let one process trace another")
    return [path, "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none"]


def run_traced(arguments: Sequence[str], log: Path, timeout: float = 300, **environment: str) -> tuple[str, list[str]]:
    """Run Python with these arguments; returns what it printed and the addresses outside this machine that it reached for.

    A question to a name server counts wherever that is: it is asked for the sake of another machine.
    """
    here = {"PYTHONPATH": str(Path(__file__).parents[2])} | environment
    done = subprocess.run(
        [*tracer(), "-o", str(log), sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        env=os.environ | here,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout, reached(log.read_text(errors="replace"))


def reached(log: str) -> list[str]:
    """Addresses outside this machine in strace's notes, `address:port`."""
    found = []
    for line in log.splitlines():
        for port, address in ADDRESS.findall(line):
            loopback = address.startswith("127.") or address == "::1" or address.startswith("::ffff:127.")
            if not loopback or int(port) == DNS_PORT:
                found.append(f"{address}:{port}")
    return sorted(set(found))
