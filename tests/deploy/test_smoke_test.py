"""deploy/smoke-test.sh succeeds for a right exporter and fails, with the reason, for every wrong one."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from conftest import DEPLOY, ROOT, must, run

SMOKE = DEPLOY / "smoke-test.sh"
FAKE = pathlib.Path(__file__).with_name("fake_exporter.py")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stop(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def fake(postgres, database):
    started = []

    def start(mode):
        process = subprocess.Popen(
            [sys.executable, FAKE, mode, database], env=postgres.env(database),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        started.append(process)
        return f"http://127.0.0.1:{process.stdout.readline().strip()}"

    yield start
    for process in started:
        stop(process)


def smoke(postgres, database, *options, **env):
    return run(SMOKE, *options, env=postgres.env(database, **env))


def rows(postgres, database):
    return int(postgres.query(database, """
        SELECT (SELECT count(*) FROM validation_executions) + (SELECT count(*) FROM mitigation_executions)
             + (SELECT count(*) FROM repositories)"""))


def test_a_right_exporter_passes(postgres, database, fake):
    done = smoke(postgres, database, "--metrics-url", fake("honest"), "--timeout", "10")
    assert done.returncode == 0, done.output
    assert "FAIL" not in done.output and "All good." in done.stdout
    for line in ("rsolv_validation_executions_total{status=\"completed\"} +2",
                 "rsolv_validation_duration_milliseconds_count +2",
                 "rsolv_validation_test_generated_total +8",
                 "rsolv_mitigation_executions_total{status=\"completed\"} +2",
                 "rsolv_mitigation_trust_score_value_sum +177",
                 "rsolv_mitigation_trust_score_value_count +2",
                 "counted exactly once"):
        assert line in done.stdout, line
    assert rows(postgres, database) == 5, "without --cleanup the rows stay"


@pytest.mark.parametrize("mode, reason", {
    "double": "counts more than was written",
    "stuck": "does not show the executions after 2s",
    "recount": "counts the same executions again",
    "forgets": "has taken numbers back",
    "unready": "the last good poll is 400 s old",
    "down": "rsolv_exporter_up is 0",
    "hung": "has stopped polling",
}.items())
def test_a_wrong_exporter_fails(postgres, database, fake, mode, reason):
    done = smoke(postgres, database, "--metrics-url", fake(mode), "--timeout", "2", "--cleanup")
    assert done.returncode == 1, done.output
    assert "FAIL" in done.stdout and reason in done.stdout and "All good" not in done.output, done.output
    assert rows(postgres, database) == 0, "cleaned up whatever the outcome"


def test_rejections_of_others_are_said(postgres, database, fake):
    done = smoke(postgres, database, "--metrics-url", fake("rejects"), "--timeout", "5")
    assert done.returncode == 0 and "values were rejected meanwhile" in done.stdout, done.output


def test_every_replica_is_looked_at(postgres, database, fake):
    done = smoke(postgres, database, "--metrics-url", fake("honest"), "--metrics-url", fake("stuck"), "--timeout", "2")
    assert done.returncode == 1 and "does not show" in done.stdout, done.output


def test_nobody_there(postgres, database):
    done = smoke(postgres, database, "--metrics-url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1 and "cannot be reached" in done.stdout
    assert rows(postgres, database) == 0, "nothing is written before the exporter is known to work"


def test_not_an_exporter(postgres, database, tmp_path):
    (tmp_path / "-").mkdir()
    for name in ("-/healthy", "-/ready", "metrics"):
        (tmp_path / name).write_text("up 1\n")
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
                              cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/")
        done = smoke(postgres, database, "--metrics-url", f"http://127.0.0.1:{port}")
    finally:
        stop(server)
    assert done.returncode == 1 and "is not a page of rsolv-exporter" in done.stdout, done.output


def test_a_role_that_may_not_write(postgres, database, fake):
    must("psql", "-Xq", "-f", DEPLOY / "postgres/role.sql", env=postgres.env(database))
    done = run(SMOKE, "--metrics-url", fake("honest"), env=postgres.env(database, "rsolv_exporter"))
    must("psql", "-Xq", "-f", DEPLOY / "postgres/remove.sql", env=postgres.env(database))
    assert done.returncode == 1 and "the rows could not be written" in done.stdout, done.output


def test_cleaning_up_leaves_the_rows_of_others(postgres, database, fake):
    assert smoke(postgres, database, "--metrics-url", fake("honest"), "--timeout", "10").returncode == 0
    postgres.query(database, """
        INSERT INTO repositories (forge_type, namespace, name, full_path, first_seen_at, last_activity_at, inserted_at, updated_at)
        VALUES ('github', 'a', 'b', 'a/b', now(), now(), now(), now());
        INSERT INTO validation_executions (repository_id, issue_number, commit_sha, inserted_at, updated_at)
        SELECT id, 1, 'x', now(), now() FROM repositories;""")
    done = smoke(postgres, database, "--cleanup-only")
    assert done.returncode == 0 and "removed from the database: 4" in done.stdout, done.output
    # An unmarked row in the smoke test's repository keeps that repository, too.
    assert postgres.query(database, "SELECT string_agg(full_path, ' ' ORDER BY full_path) FROM repositories") \
        == "a/b rsolv-exporter/smoke-test"
    assert postgres.query(database, "SELECT count(*) FROM validation_executions") == "2"
    postgres.query(database, "DELETE FROM validation_executions")
    assert smoke(postgres, database, "--cleanup-only").returncode == 0
    assert postgres.query(database, "SELECT string_agg(full_path, ' ') FROM repositories") == "a/b"


def test_the_password_is_on_no_command_line(postgres, database, fake, tmp_path):
    """psql is replaced by one that writes down its arguments and its password."""
    real = shutil.which("psql")
    spy = tmp_path / "psql"
    spy.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/arguments\necho "$PGPASSWORD" >>{tmp_path}/password\nexec {real} "$@"\n')
    spy.chmod(0o755)
    url = f"ecto://postgres:s%40e%2Fc%5Cr%25t@/{database}?host={postgres.home}"
    done = smoke(postgres, database, "--metrics-url", fake("honest"), "--timeout", "10", "--cleanup",
                 PATH=f"{tmp_path}:{os.environ['PATH']}", DATABASE_URL=url)
    assert done.returncode == 0, done.output
    assert "s%40e" not in (tmp_path / "arguments").read_text()
    assert set((tmp_path / "password").read_text().split()) == {"s@e/c\\r%t"}
    assert "s%40e" not in done.output and "s@e" not in done.output


@pytest.mark.parametrize("options", [["--timeout", "soon"], ["--nonsense"], ["--job"], ["--schema", "a;b"]])
def test_wrong_usage(postgres, database, options):
    done = smoke(postgres, database, *options)
    assert done.returncode == 2 and "Try --help" in done.stderr


def test_help():
    done = run(SMOKE, "--help")
    assert done.returncode == 0
    for option in re.findall(r"--[a-z-]+(?=\)| \|)", SMOKE.read_text()):
        assert option in done.stdout, option


# --- with the real ones ---------------------------------------------------------------------------


def wait_for(url, seconds=20):
    for _ in range(seconds * 10):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_end_to_end(postgres, database, exporter, tmp_path):
    """A real exporter, as the least privileged role and with the timings of production scaled down, and
    a real Prometheus with the shipped rules."""
    prometheus = shutil.which("prometheus")
    must("psql", "-Xq", "-f", DEPLOY / "postgres/role.sql", env=postgres.env(database))
    port, prometheus_port = free_port(), free_port()
    rules = sorted(p for p in (ROOT / "alerts").glob("*.yml") if p.read_text().find("\ngroups:") >= 0 or p.read_text().startswith("groups:"))
    processes, logs = [], []

    def start(name, *command, **options):
        logs.append(tmp_path / f"{name}.log")
        processes.append(subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                          stdout=logs[-1].open("wb"), stderr=subprocess.STDOUT, **options))

    try:
        start("exporter", exporter, "serve",
              f"--web.listen-address=127.0.0.1:{port}", f"--state.file={tmp_path}/state",
              "--poll.interval=1s", "--series.birth-hold=3s",
              env=os.environ | {"DATABASE_URL": f"postgres://rsolv_exporter@/{database}?host={postgres.home}"})
        wait_for(f"http://127.0.0.1:{port}/-/ready")
        options = []
        if prometheus:
            (tmp_path / "prometheus.yml").write_text(
                "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
                f"rule_files: [{', '.join(map(str, rules))}]\n"
                "scrape_configs:\n"
                "  - job_name: rsolv-exporter\n"
                f"    static_configs: [{{targets: ['127.0.0.1:{port}'], labels: {{environment: test}}}}]\n")
            start("prometheus", prometheus, f"--config.file={tmp_path}/prometheus.yml",
                  f"--storage.tsdb.path={tmp_path}/tsdb", f"--web.listen-address=127.0.0.1:{prometheus_port}")
            wait_for(f"http://127.0.0.1:{prometheus_port}/-/ready")
            options = ["--prometheus-url", f"http://127.0.0.1:{prometheus_port}"]
        done = smoke(postgres, database, "--metrics-url", f"http://127.0.0.1:{port}", "--timeout", "60", "--cleanup", *options)
        assert done.returncode == 0, done.output + "\n".join(p.read_text(errors="replace") for p in logs)
        assert rows(postgres, database) == 0
        # A second run counts on from there: the first one's numbers have not gone with its rows.
        done = smoke(postgres, database, "--metrics-url", f"http://127.0.0.1:{port}", "--timeout", "60", "--cleanup", *options)
        assert done.returncode == 0, done.output
    finally:
        for process in reversed(processes):
            stop(process)
        must("psql", "-Xq", "-f", DEPLOY / "postgres/remove.sql", env=postgres.env(database))
