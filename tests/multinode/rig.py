"""Two hosts on one machine: network namespaces on a bridge, each with its own sshd, /tmp folder and /dev/shm.

What they share is the rest of the file system, as hosts share a home folder. Needs root, iproute2, openssh-server and
pdsh; nothing outside the given folder is written, and nothing is left when `Rig` ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PROGRAMS = ("ip", "nsenter", "ssh", "ssh-keygen", "pdsh", "mount")
SSHD = Path("/usr/sbin/sshd")
DEADLINE_S = 90.0


def missing() -> str | None:
    """Why no rig can be built here."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if not SSHD.exists():
        lacking.append(str(SSHD))
    return f"needs {', '.join(lacking)}" if lacking else None


@dataclass(frozen=True)
class Host:
    namespace: str
    address: str
    port_name: str  # the bridge's end of its cable
    sshd: subprocess.Popen[bytes]

    def enter(self, words: Sequence[str], folder: Path) -> list[str]:
        """The command line that runs `words` on this host, in `folder`."""
        return ["nsenter", "-t", str(self.sshd.pid), "-n", "-m", "env", "-C", str(folder), *words]

    def processes(self) -> dict[int, str]:
        """What runs there but for its sshd: command lines by process id."""
        output = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        found = {int(pid): _command_line(int(pid)) for pid in output.stdout.split()}
        return {pid: line for pid, line in found.items() if line and not line.startswith(("sshd:", str(SSHD)))}


class Rig:
    """`hosts[0]` is where the user sits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"af{os.getpid()}"
        self.temporary = folder / "tmp"  # another file system on each host
        self.hosts: list[Host] = []

    def __enter__(self) -> Rig:
        try:
            self._write_files()
            _ip("link", "add", self._name, "type", "bridge")
            _ip("link", "set", self._name, "up")
            for index in range(2):
                self.hosts.append(self._start_host(index))
            for host in self.hosts:
                self._until_answering(host)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    @property
    def hostfile(self) -> Path:
        return self._folder / "hostfile"

    def write_hostfile(self, *addresses: str, slots: int = 1) -> Path:
        self.hostfile.write_text("".join(f"{address} slots={slots}\n" for address in addresses))
        return self.hostfile

    def run(
        self, words: Sequence[str], *, timeout_s: float, host: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command line on a host, to its end, with the environment of a user who sits there."""
        return subprocess.run(
            self.hosts[host].enter(words, cwd or self._folder),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, words: Sequence[str], *, cwd: Path | None = None) -> subprocess.Popen[str]:
        """A command line on the first host, its output in one pipe."""
        return subprocess.Popen(
            self.hosts[0].enter(words, cwd or self._folder),
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """As a user of this Python has it who works on a CPU, with DeepSpeed's file for the other hosts."""
        beside = str(Path(sys.executable).parent)
        own = {
            "PATH": os.pathsep.join([beside, os.environ["PATH"]]),
            "TMPDIR": str(self.temporary),
            "DS_ENV_FILE": str(self._folder / "deepspeed_env"),
            **_ON_CPU,
        }
        return {**os.environ, **own, **(changes or {})}

    def files(self, host: Host) -> list[str]:
        """What probes have left on it: in its folder for temporary files and in its shared memory."""
        command = host.enter(["ls", "-A1", "/dev/shm"], self.temporary)
        shared = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        own = subprocess.run([*command[:-1], "."], capture_output=True, text=True, check=True).stdout.split()
        return [*own, *shared]

    @contextmanager
    def full_disk(self, host: int, size_bytes: int) -> Iterator[None]:
        """A file system of that size where the host's temporary files go."""
        with self._mounted(host, self.temporary, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs"):
            yield

    @contextmanager
    def other_file(self, host: int, path: Path, text: str) -> Iterator[None]:
        """The host sees `text` in that file."""
        other = self._folder / "other"
        other.write_text(text)
        with self._mounted(host, path, "--bind", str(other)):
            yield

    @contextmanager
    def _mounted(self, host: int, path: Path, *words: str) -> Iterator[None]:
        enter = self.hosts[host].enter
        subprocess.run(enter(["mount", *words, str(path)], self._folder), check=True)
        try:
            yield
        finally:
            subprocess.run(enter(["umount", "--lazy", str(path)], self._folder), check=True)

    @contextmanager
    def cut(self, host: int) -> Iterator[None]:
        """Its cable is pulled: nobody is told."""
        _ip("link", "set", self.hosts[host].port_name, "down")
        try:
            yield
        finally:
            _ip("link", "set", self.hosts[host].port_name, "up")

    def _write_files(self) -> None:
        self.temporary.mkdir()
        for name in ("host_key", "id"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / name)]
            subprocess.run(command, check=True)
        exports = {"PATH": self.environment()["PATH"], "GLOO_SOCKET_IFNAME": "eth0", **_ON_CPU}
        (self._folder / "deepspeed_env").write_text("".join(f"{key}={value}\n" for key, value in exports.items()))
        (self._folder / "sshd_config").write_text(_SSHD_CONFIG.format(folder=self._folder))
        (self._folder / "ssh_config").write_text(_SSH_CONFIG.format(folder=self._folder))

    def _start_host(self, index: int) -> Host:
        namespace, port_name = f"{self._name}{'ab'[index]}", f"{self._name}p{index}"
        address = f"10.77.0.{index + 1}"
        _ip("netns", "add", namespace)
        _ip("link", "add", port_name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", port_name, "master", self._name, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        with (self._folder / f"sshd{index}.log").open("wb") as log:
            command = ["ip", "netns", "exec", namespace, "sh", "-ec", _HOST.format(folder=self._folder, sshd=SSHD)]
            sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return Host(namespace, address, port_name, sshd)

    def _until_answering(self, host: Host) -> None:
        def answers() -> bool:
            command = host.enter(["ssh", host.address, "true"], self._folder)
            return subprocess.run(command, capture_output=True).returncode == 0

        until(answers, timeout_s=DEADLINE_S, what=f"an answer of the sshd of {host.address}")

    def _close(self) -> None:
        for host in self.hosts:
            for pid in [*host.processes(), host.sshd.pid]:
                _kill(pid)
            host.sshd.wait()
        for suffix in "ab":
            subprocess.run(["ip", "netns", "delete", f"{self._name}{suffix}"], capture_output=True)
        subprocess.run(["ip", "link", "delete", self._name], capture_output=True)
        self.hosts.clear()


def until(is_true: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Waits for it; AssertionError when it does not happen in time."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.05)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # ended by itself


def _command_line(pid: int) -> str:
    """Empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


_ON_CPU = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

# `ip netns exec` gives the host a mount namespace of its own: none of this is seen outside.
_HOST = """
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs {folder}/tmp
mount --bind {folder}/ssh_config /etc/ssh/ssh_config
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec {sshd} -D -e -f {folder}/sshd_config
"""

_SSHD_CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/id.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""

_SSH_CONFIG = """
IdentityFile {folder}/id
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
BatchMode yes
ConnectTimeout 5
"""
