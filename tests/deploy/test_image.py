"""The image as image.sh (`make test-image`) has built it: what is in it, and how the exporter runs as its process 1."""

import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from conftest import ROOT, must, run

BUILT = os.environ.get("RSOLV_TEST_IMAGE")
pytestmark = pytest.mark.skipif(BUILT is None, reason="make test-image builds an image to look at")

# More than this is not expected of the binary (release) and the base image together.
LARGEST = 40 << 20
# What the image has beyond its base image; lib and sbin lead to usr/.
OWN = {
    "./usr/bin/rsolv-exporter",
    "./usr/share/doc/rsolv-exporter",
    "./usr/share/doc/rsolv-exporter/LICENSE",
    "./var/lib/rsolv-exporter",
}


def root():
    return pathlib.Path(os.environ["RSOLV_TEST_IMAGE_ROOT"])


def config(image):
    return json.loads((pathlib.Path(BUILT) / f"{image}.json").read_text())


def test_nothing_is_in_the_image_that_should_not_be():
    base = set(pathlib.Path(os.environ["RSOLV_TEST_IMAGE_BASE"]).read_text().splitlines())
    there = {"." + str(p)[len(str(root())):] for p in root().rglob("*")}
    made_by_the_builder = {"./run", "./etc/hosts", "./etc/hostname", "./etc/resolv.conf"}
    assert there - base - made_by_the_builder == OWN
    assert not list(root().glob("*/*sh")) and not (root() / "bin/sh").exists(), "there is no shell"


def test_it_is_small():
    size = sum(p.lstat().st_size for p in root().rglob("*") if p.is_file() and not p.is_symlink())
    print(f"{size} bytes")
    assert size < LARGEST


def test_the_state_belongs_to_the_user():
    folder = (root() / "var/lib/rsolv-exporter").stat()
    assert (folder.st_uid, folder.st_gid) == (65532, 65532)


def test_only_docker_s_format_has_a_healthcheck():
    docker = config("docker")["Docker"]["config"]
    assert docker["Healthcheck"]["Test"] == ["CMD", "/usr/bin/rsolv-exporter", "healthcheck"]
    assert docker["User"] == "65532:65532" and docker["Entrypoint"] == ["/usr/bin/rsolv-exporter"]
    assert docker["Volumes"] == {"/var/lib/rsolv-exporter": {}}
    oci = config("oci")["OCIv1"]
    assert "healthcheck" not in json.dumps(oci["config"]).lower()
    assert oci["config"]["Entrypoint"] == ["/usr/bin/rsolv-exporter"]


def test_it_knows_what_it_was_built_from():
    said = must("chroot", root(), "/usr/bin/rsolv-exporter", "--version")
    assert must("git", "rev-parse", "HEAD", cwd=ROOT).strip() in said and "unknown" not in said, said


class Container:
    """The image's file system, read only but for the state, in namespaces of its own for processes and mounts."""

    def __init__(self, state, postgres, url):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        # The exporter takes the shell's place: process 1.
        script = f"""
            set -e
            mount --bind {root()} {root()}
            mount -t tmpfs none {root()}/tmp
            mkdir -p {root()}/tmp/pg
            mount --bind {postgres.home} {root()}/tmp/pg
            mount --bind {state} {root()}/var/lib/rsolv-exporter
            mount -o remount,ro,bind {root()}
            mount -t proc proc {root()}/proc
            exec chroot --userspec=65532:65532 {root()} /usr/bin/rsolv-exporter
        """
        self.environment = {
            "RSOLV_EXPORTER_STATE__FILE": "/var/lib/rsolv-exporter/state",
            "RSOLV_EXPORTER_WEB__LISTEN_ADDRESS": f":{self.port}",
            "RSOLV_EXPORTER_POLL__INTERVAL": "1s",
            "DATABASE_URL": url,
        }
        self.unshare = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount", "--kill-child", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"]} | self.environment,
        )

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()

    def pid(self):
        children = pathlib.Path(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children")
        return int(children.read_text().split()[0])

    def inside(self, *command):
        """A process that the runtime starts in there, as for HEALTHCHECK and `exec`."""
        return run("nsenter", f"--target={self.pid()}", "--pid", "--mount", "--", *command, env=os.environ | self.environment)


def wait_for(what, seconds=30):
    for _ in range(seconds * 20):
        try:
            found = what()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@pytest.fixture
def container(postgres, database, tmp_path):
    state = tmp_path / "state"
    shutil.copytree(root() / "var/lib/rsolv-exporter", state)
    os.chown(state, 65532, 65532)
    container = Container(state, postgres, f"postgres://postgres@/{database}?host=/tmp/pg")
    container.state = state
    yield container
    if container.unshare.poll() is None:
        container.unshare.kill()
        container.unshare.wait(10)


def test_it_runs_as_process_1_and_stops_at_sigterm(container):
    wait_for(lambda: "ready" in container.get("/-/ready"))
    status = pathlib.Path(f"/proc/{container.pid()}/status").read_text()
    assert re.search(r"(?m)^NSpid:\s+\d+\s+1$", status) and re.search(r"(?m)^Uid:\s+65532\s", status), status
    assert (container.state / "state").stat().st_uid == 65532
    healthy = container.inside("chroot", "--userspec=65532:65532", root(), "/usr/bin/rsolv-exporter", "healthcheck")
    assert healthy.returncode == 0, healthy.output
    started = time.monotonic()
    os.kill(container.pid(), signal.SIGTERM)
    assert container.unshare.wait(20) == 0, container.unshare.stderr.read()
    assert time.monotonic() - started < 10


def test_it_reaps_what_others_leave_to_process_1(container):
    wait_for(lambda: "ready" in container.get("/-/ready"))
    # A shell that ends before its child: that is then a child of process 1.
    assert container.inside("sh", "-c", "sleep 0.3 & exit 0").returncode == 0

    def zombies():
        output = must("ps", "--no-headers", "-o", "stat", "--ppid", container.pid()) if children() else ""
        return [line for line in output.split() if line.startswith("Z")]

    def children():
        tasks = pathlib.Path(f"/proc/{container.pid()}/task").iterdir()
        return "".join((task / "children").read_text() for task in tasks).split()

    wait_for(children)
    wait_for(lambda: not children())
    assert zombies() == []
