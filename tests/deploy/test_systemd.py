"""The unit file: valid, hardened, and in step with the sample configuration. What it does under a real systemd is in
tests/deploy/systemd/."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from conftest import DEPLOY, ENVIRONMENT, must, run

UNIT = DEPLOY / "systemd/rsolv-exporter.service"


def directives():
    return [line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w+=", line)]


def test_verify(tmp_path):
    """In a root of its own, where the program is where the package puts it."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    program = tmp_path / "usr/bin/rsolv-exporter"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    unit = units / "rsolv-exporter.service"
    unit.write_text(UNIT.read_text().replace("ExecStart=/usr/bin/", f"ExecStart={tmp_path}/usr/bin/"))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    ours = [line for line in done.output.splitlines() if "rsolv-exporter" in line]
    assert done.returncode == 0 and not ours, done.output


def test_exposure_is_below_2(tmp_path):
    # --threshold takes tenths, and fails when the exposure is above.
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=19", "--no-pager", UNIT)
    assert done.returncode == 0, done.output
    level = float(re.search(r"exposure level for \S+: ([\d.]+)", done.stdout).group(1))
    assert level < 2.0


def test_environment_is_made_of_settings():
    names = [value.split("=")[0] for key, value in directives() if key == "Environment"]
    assert names and all(name in ENVIRONMENT for name in names)


def test_state_is_kept_and_password_is_a_credential():
    values = dict(directives())
    environment = dict(v.split("=", 1) for k, v in directives() if k == "Environment")
    # By the unit's name, for instances of the template.
    assert environment["RSOLV_EXPORTER_STATE__FILE"] == f"%S/{values['StateDirectory']}/state" == "%S/%N/state"
    name = values["LoadCredential"].split(":")[0]
    assert environment["RSOLV_EXPORTER_DATABASE__PASSWORD_FILE"] == f"%d/{name}"


def test_readiness_is_reported():
    assert dict(directives())["Type"] == "notify"


def test_system_calls_are_a_list_of_what_is_allowed():
    """The first filter decides whether the list allows or denies."""
    filters = [value for key, value in directives() if key == "SystemCallFilter"]
    assert filters == ["@system-service", "~@privileged @resources"]


def serve(exporter, postgres, database, state, *wrapper, **env):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url = f"postgres://postgres@/{database}?host={postgres.home}"
    process = subprocess.Popen(
        [*map(str, wrapper), str(exporter), f"--web.listen-address=127.0.0.1:{port}", f"--state.file={state}", "--poll.interval=1s"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"DATABASE_URL": url} | env,
    )
    return process, port


def test_readiness_is_notified(exporter, postgres, database, tmp_path):
    """READY=1 comes when the port answers, not before, as Type=notify takes it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        process, port = serve(exporter, postgres, database, tmp_path / "state", NOTIFY_SOCKET=str(tmp_path / "notify"))
        try:
            assert "READY=1" in notify.recv(4096).decode().split("\n")
            socket.create_connection(("127.0.0.1", port), 5).close()
        finally:
            process.terminate()
            process.wait(20)


def calls_of(group):
    listing = must("systemd-analyze", "syscall-filter", "--no-pager", group)
    calls = set()
    for line in map(str.strip, listing.splitlines()[1:]):
        if line.startswith("@"):
            calls |= calls_of(line)
        elif line and not line.startswith("#"):
            calls.add(line)
    return calls


def test_every_system_call_is_allowed(exporter, postgres, database, tmp_path):
    """What the exporter calls from start to stop, polling, serving and saving in between."""
    if not shutil.which("strace"):
        pytest.skip("no strace")
    trace = tmp_path / "trace"
    process, port = serve(exporter, postgres, database, tmp_path / "state", "strace", "-f", "-qq", "-o", trace)
    try:
        for _ in range(100):
            if run("curl", "-sf", f"http://127.0.0.1:{port}/-/ready").returncode == 0:
                break
            time.sleep(0.1)
        must("curl", "-sf", f"http://127.0.0.1:{port}/metrics")
        time.sleep(1.5)
    finally:
        # strace passes nothing on; the exporter is its child.
        child = int((pathlib.Path("/proc") / str(process.pid) / "task" / str(process.pid) / "children").read_text().split()[0])
        os.kill(child, signal.SIGTERM)
        process.wait(20)
    called = set(re.findall(r"(?m)^\d+ +([a-z0-9_]+)\(", trace.read_text()))
    assert "connect" in called and "accept4" in called
    allowed = calls_of("@system-service") | calls_of("@default")
    denied = calls_of("@privileged") | calls_of("@resources")
    assert called - (allowed - denied) == set()
