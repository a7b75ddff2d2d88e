"""Real servers for tests: MLflow's, PostgreSQL, and a connection between them that can be cut."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

START_SECONDS = 120
NOBODY = 65534


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, backend: str) -> Iterator[str]:
    """`mlflow server` on 127.0.0.1, in a process group of its own; its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--backend-store-uri", backend]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        _wait_for(uri, server, folder / "server.log")
        yield uri
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urlopen(f"{uri}/health", timeout=2) as answer:
            if answer.status == 200:
                return
        assert server.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(f"no answer in {START_SECONDS} s: {log.read_text()}")


class Wire:
    """Forwards connections to a port of 127.0.0.1, except between `cut` and `mend`."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = free_port()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.mend()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mend(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse new connections, and close the open ones."""
        assert self._listener is not None
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                self._open += [here, there]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 16):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)


def _program(name: str) -> str | None:
    """The path of a program of PostgreSQL; Debian installs them outside the PATH, by release."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def no_postgres() -> str:
    """Why PostgreSQL cannot be started here; empty if it can."""
    missing = [name for name in ("initdb", "pg_ctl") if _program(name) is None]
    if missing:
        return f"PostgreSQL's {' and '.join(missing)} are not here (apt install postgresql)"
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "psycopg2 is not installed (pip install psycopg2-binary)"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "initdb refuses root, and there is no setpriv to run it as somebody else"
    return ""


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own on 127.0.0.1; the address of its database."""
    port = free_port()
    # Not among pytest's folders, which another user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    data, log = str(folder / "data"), str(folder / "log")
    options = f"-p {port} -h 127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        _unprivileged("initdb", "-D", data, "-U", "harness", "--auth=trust", "-N")
        _unprivileged("pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://harness@127.0.0.1:{port}/postgres"
        finally:
            _unprivileged("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _unprivileged(*command: str) -> None:
    """Run a program of PostgreSQL; as another user if we are root, whom it refuses."""
    program, *arguments = command
    command = (_program(program) or program, *arguments)
    if os.geteuid() == 0:
        identity = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command = ("setpriv", *identity, *command)
    # Its output goes nowhere: the server inherits it, and would keep a pipe open.
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
