"""Fixtures of the deployment tests: paths, tools, a throwaway PostgreSQL, the exporter."""

import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

sys.dont_write_bytecode = True

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = pathlib.Path(sys.executable).parent

# Every setting the exporter has, with its default (None: there is none).
SETTINGS = {
    "database.url": None,
    "database.url_file": None,
    "database.password_file": None,
    "database.password_command": None,
    "database.connect_timeout": "5s",
    "database.statement_timeout": "30s",
    "database.lock_timeout": "2s",
    "database.max_lifetime": "30m",
    "poll.interval": "15s",
    "poll.stale_after": "5m",
    "poll.gap_watch": "24h",
    "series.limit": 10000,
    "series.birth_hold": "90s",
    "series.exemplars": True,
    "state.file": None,
    "queries.dir": None,
    "web.listen_address": ":10060",
    "web.systemd_socket": False,
    "web.telemetry_path": "/metrics",
    "web.config_file": None,
    "web.openmetrics_created": False,
    "web.show_details": False,
    "log.level": "info",
    "log.format": "logfmt",
}
ENVIRONMENT = {
    "RSOLV_EXPORTER_" + key.upper().replace(".", "__"): key for key in SETTINGS
} | {"DATABASE_URL": "database.url"}


def run(*command, **options):
    """Runs a command; its output is part of the failure when it fails."""
    options.setdefault("timeout", 120)
    done = subprocess.run(
        [str(c) for c in command], text=True, capture_output=True, stdin=subprocess.DEVNULL, **options
    )
    done.output = done.stdout + done.stderr
    return done


def must(*command, **options):
    done = run(*command, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.output}"
    return done.stdout


def postgres_bin():
    if os.environ.get("RSOLV_TEST_PG_BIN"):
        return pathlib.Path(os.environ["RSOLV_TEST_PG_BIN"])
    candidates = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
    if candidates:
        return pathlib.Path(candidates[-1])
    found = shutil.which("initdb")
    assert found, "no PostgreSQL server on this machine"
    return pathlib.Path(found).resolve().parent


class Postgres:
    """A throwaway cluster that listens on a socket only."""

    def __init__(self):
        self.bin = postgres_bin()
        # Short: a socket's path may have 107 bytes. In memory where there is room: a database is a
        # thousand files, made and removed.
        memory = "/dev/shm"
        roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 2 << 30
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="rxdeploy", dir=memory if roomy else "/tmp"))
        # The server refuses to run as root.
        self.as_user = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
            self.as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.home.chmod(0o755)
        data = self.home / "data"
        must(self.bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--no-locale", "--no-sync", cwd=self.home, **self.as_user)
        settings = {
            "listen_addresses": "", "unix_socket_directories": self.home, "fsync": "off",
            "synchronous_commit": "off", "full_page_writes": "off",
        }
        with open(self.home / "log", "wb") as log:
            self.server = subprocess.Popen(
                [self.bin / "postgres", "-D", data]
                + [f"-c{key}={value}" for key, value in settings.items()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, **self.as_user,
            )
        for _ in range(200):
            if run("psql", "-XAtc", "SELECT 1", env=self.env()).returncode == 0:
                break
            time.sleep(0.05)
        else:
            raise AssertionError((self.home / "log").read_text())
        self.count = 0

    def env(self, database="postgres", user="postgres", **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG") and k != "DATABASE_URL"}
        return kept | {"PGHOST": str(self.home), "PGDATABASE": database, "PGUSER": user} | more

    def database(self):
        """A new database with the platform's tables."""
        self.count += 1
        name = f"rsolv{self.count}"
        must("psql", "-Xqc", f"CREATE DATABASE {name}", env=self.env())
        # As it is from PostgreSQL 15 on.
        must("psql", "-Xqc", "REVOKE CREATE ON SCHEMA public FROM PUBLIC", env=self.env(name))
        must("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", ROOT / "tests/support/schema.sql",
             env=self.env(name))
        return name

    def query(self, database, sql, user="postgres"):
        return must("psql", "-XAt", "-v", "ON_ERROR_STOP=1", "-c", sql, env=self.env(database, user)).strip()

    def stop(self):
        self.server.send_signal(signal.SIGQUIT)
        self.server.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres():
    cluster = Postgres()
    yield cluster
    cluster.stop()


@pytest.fixture
def database(postgres):
    return postgres.database()


@pytest.fixture(scope="session")
def exporter():
    """The path of the exporter."""
    named = os.environ.get("RSOLV_EXPORTER_BIN")
    if named:
        return pathlib.Path(named).resolve()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    built = [p for p in (target / kind / "rsolv-exporter" for kind in ("debug", "release")) if p.exists()]
    built = [p for p in built if "healthcheck" in run(p, "--help").output]
    if not built:
        pytest.skip("no rsolv-exporter has been built")
    return max(built, key=lambda p: p.stat().st_mtime)


def pytest_unconfigure(config):
    """One plain line at the very end, for whoever reads the log by machine."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    number = {kind: len(reporter.stats.get(kind, [])) for kind in ("passed", "failed", "error", "skipped")}
    line = f"{number['passed']} passed, {number['failed'] + number['error']} failed"
    if number["skipped"]:
        line += f", {number['skipped']} skipped"
    print(line)
