"""What a child that parses foreign files may not do: write files, start processes, reach the network, run on.

Three means, each where the system has it: resource limits (setrlimit, setitimer), Landlock for files and seccomp for
system calls (both Linux). An attacker who takes over a decoder meets them, whatever the decoder was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

OPEN_FILES = 64
_READABLE = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/null")
"""Beside Python's own folders: what loading a shared library takes."""
_REFUSED = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("fork", "vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
    *("kill", "tkill", "tgkill", "pidfd_send_signal", "setns", "unshare", "mount", "umount2", "pivot_root", "chroot"),
    *("creat", "mkdir", "mkdirat", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat", "openat2"),
    *("unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "truncate", "chmod", "fchmodat", "fchmodat2"),
    *("chown", "lchown", "fchownat", "setxattr", "lsetxattr", "utimensat", "open_by_handle_at", "io_uring_setup"),
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "shmget", "msgget", "semget"),
)
"""System calls that no decoder makes. Those that a machine does not have are passed over."""
_WRITING = (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)
_CLONE_THREAD = 0x10000


def confine(folders: Iterable[str]) -> list[str]:
    """Give up every right that reading a file that is open already does not take; for good.

    Args:
        folders: those of Python and of the packages, which may be read.

    Returns:
        What this system lacks, in words; empty where all is in force.
    """
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, OPEN_FILES)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))
    missing = []
    for name, act in (("seccomp", _seccomp), ("Landlock", lambda: _landlock(folders))):
        try:
            act()
        except Exception as error:  # an older kernel, another system, a library that is not there
            missing.append(f"{name} ({type(error).__name__}: {str(error)[:100]})")
    if any(name.startswith("seccomp") for name in missing):
        with contextlib.suppress(ValueError, OSError):  # does not bind root
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return missing


def start_limits(*, memory: int, cpu_s: float, wall_s: float) -> None:
    """Bound what comes next: the system ends this process beyond the times, and refuses memory.

    Args:
        memory: bytes beyond what is only reserved, such as the code of libraries.
        cpu_s: seconds of the processor, user and system.
        wall_s: seconds on the clock, for when the parent, which would end this process, is gone.
    """
    size, resident = address_space()
    set_memory(memory + size - resident)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # SIGPROF ends the process
    signal.setitimer(signal.ITIMER_REAL, wall_s)  # SIGALRM as well


def end_limits() -> None:
    """Until the next file."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    set_memory(None)


def set_memory(most: int | None) -> None:
    """Bytes of address space, or no limit but the process's own."""
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = hard if most is None else most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def address_space() -> tuple[int, int]:
    """Bytes of address space and, of these, in memory; zeros where the system does not say."""
    try:
        size, resident = Path("/proc/self/statm").read_text().split()[:2]
    except OSError:
        return 0, 0
    return int(size) * resource.getpagesize(), int(resident) * resource.getpagesize()


def _landlock(folders: Iterable[str]) -> None:
    """Read where libraries lie, and nowhere else; write nowhere."""
    if sys.platform != "linux":
        raise OSError("Linux alone has it")
    from landlock import FSAccess, Ruleset  # type: ignore[import-untyped]

    rules = Ruleset()
    places = [place for place in (*folders, *_READABLE, f"/proc/{os.getpid()}") if Path(place).exists()]
    rules.allow(*(place for place in places if Path(place).is_dir()), rules=FSAccess.READ_FILE | FSAccess.READ_DIR)
    rules.allow(*(place for place in places if not Path(place).is_dir()), rules=FSAccess.READ_FILE)
    rules.apply()


def _seccomp() -> None:
    if sys.platform != "linux":
        raise OSError("Linux alone has it")
    import pyseccomp as seccomp  # type: ignore[import-untyped]

    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    refuse = seccomp.ERRNO(errno.EPERM)
    for name in _REFUSED:
        with contextlib.suppress(OSError, ValueError):  # a call that this machine does not have
            rules.add_rule(refuse, name)
    for flag in _WRITING:
        rules.add_rule(refuse, "openat", seccomp.Arg(2, seccomp.MASKED_EQ, flag, flag))
        with contextlib.suppress(OSError, ValueError):
            rules.add_rule(refuse, "open", seccomp.Arg(1, seccomp.MASKED_EQ, flag, flag))
    rules.add_rule(refuse, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags lie in memory; the C library then takes clone
    rules.load()
