"""The image's Dockerfile and the Compose file. No engine runs here: what they say is checked, not done."""

import fnmatch
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from conftest import DEPLOY, ENVIRONMENT, ROOT, TOOLS, must, run

DOCKERFILE = DEPLOY / "docker/Dockerfile"
IGNORE = DEPLOY / "docker/Dockerfile.dockerignore"
COMPOSE = DEPLOY / "compose.yaml"


def instructions():
    """(stage, instruction, arguments), continuation lines joined."""
    stage, text = -1, re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.strip().partition(" ")
        stage += word == "FROM"
        yield stage, word, re.sub(r"\s+", " ", rest.strip())


def final(word):
    last = max(stage for stage, *_ in instructions())
    return [rest for stage, w, rest in instructions() if (stage, w) == (last, word)]


def in_context(path):
    """Whether .dockerignore lets a path of the repository through: the last pattern that matches wins."""
    included = True
    for pattern in filter(None, (l.split("#")[0].strip() for l in IGNORE.read_text().splitlines())):
        negated = pattern.startswith("!")
        pattern = pattern.lstrip("!")
        parts = path.split("/")
        if any(fnmatch.fnmatch("/".join(parts[:n]), pattern) for n in range(1, len(parts) + 1)):
            included = negated
    return included


def copied_from_context():
    for _, word, rest in instructions():
        if word == "COPY" and "--from=" not in rest:
            yield from [a for a in rest.split() if not a.startswith("--")][:-1]


def test_hadolint():
    must(TOOLS / "hadolint", "--failure-threshold=style", DOCKERFILE)


def test_copied_files_exist_and_are_in_the_context():
    for path in copied_from_context():
        assert (ROOT / path).exists(), path
        assert in_context(path), path


def test_the_context_has_nothing_else():
    tracked = must("git", "ls-files", cwd=ROOT).splitlines()
    tops = tuple(copied_from_context())
    stray = [p for p in tracked if in_context(p) and not p.startswith(tops)]
    assert stray == []
    for private in ("target/release/rsolv-exporter", ".git/config", ".env", "deploy/compose.yaml"):
        assert not in_context(private)


def test_files_the_compiler_reads_are_copied():
    """What include_str! and its like name in the sources, and what cargo's lists of a build name."""
    copied = tuple(copied_from_context())
    read = set()
    for source in (ROOT / "src").rglob("*.rs"):
        # Tests stand at the end of a file, and are not built into the image.
        text = source.read_text().split("#[cfg(test)]")[0]
        for name in re.findall(r'include(?:_str|_bytes)?!\(\s*"([^"]+)"', text):
            read.add((source.parent / name).resolve())
    for listing in (ROOT / "target" / kind / "rsolv-exporter.d" for kind in ("debug", "release")):
        if listing.exists():
            read |= {Path(p) for p in listing.read_text().split(":", 1)[1].split()}
    # What git says is noted where there is git; the image's build is told.
    ours = (p for p in read if p.is_relative_to(ROOT) and not p.is_relative_to(ROOT / ".git"))
    for path in sorted(str(p.relative_to(ROOT)) for p in ours):
        assert path.startswith(copied) and in_context(path), path


def test_dependencies_can_be_built_before_the_sources_are_there(tmp_path):
    """The layer of dependencies is built from Cargo.toml, Cargo.lock and an empty crate alone: a target
    that Cargo.toml names with a file of its own would break it."""
    if not shutil.which("cargo"):
        pytest.skip("no cargo")
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").touch()
    (tmp_path / "src/main.rs").write_text("fn main() {}\n")
    # Parses the manifest as a build does; that some crate may not be on this machine is no matter.
    output = run("cargo", "fetch", "--offline", "--locked", cwd=tmp_path).output
    assert "failed to parse manifest" not in output, output


def test_image_runs_as_nobody_special():
    assert final("FROM") == ["gcr.io/distroless/cc-debian12:nonroot"]
    assert final("USER") == ["65532:65532"]
    assert final("RUN") == [], "there is no shell to run anything"
    assert json.loads(final("ENTRYPOINT")[0]) == ["/usr/bin/rsolv-exporter"]


def test_image_checks_its_health_and_keeps_its_state():
    command = json.loads(final("HEALTHCHECK")[0].split("CMD", 1)[1])
    assert command == ["/usr/bin/rsolv-exporter", "healthcheck"]
    volume, = json.loads(final("VOLUME")[0])
    environment = dict(e.split("=", 1) for e in final("ENV"))
    assert environment.keys() <= ENVIRONMENT.keys()
    assert environment["RSOLV_EXPORTER_STATE__FILE"].startswith(volume + "/")
    assert any(c.endswith(" " + volume) and "--chown=65532:65532" in c for c in final("COPY"))
    assert final("EXPOSE") == ["10060"]


def test_image_labels():
    labels = dict(re.findall(r'(org\.opencontainers\.image\.[a-z.]+)="([^"]*)"', final("LABEL")[0]))
    assert {k.rsplit("image.")[1] for k in labels} >= {"title", "description", "licenses", "version", "revision"}
    cargo = (ROOT / "Cargo.toml").read_text()
    for label, key in (("title", "name"), ("description", "description"), ("licenses", "license")):
        assert labels["org.opencontainers.image." + label] == re.search(rf'(?m)^{key} = "(.*)"', cargo).group(1)
    version = re.search(r'(?m)^version = "(.*)"', cargo).group(1)
    assert f"VERSION={version}" in final("ARG")


def test_build_and_image_are_the_same_debian():
    bases = [rest for _, word, rest in instructions() if word == "FROM"]
    assert "bookworm" in bases[0] and "debian12" in bases[1]


def test_the_base_has_every_library(exporter):
    """glibc and OpenSSL are in distroless `base`, libgcc_s in `cc`: a library beyond these would be missed
    only when the container starts."""
    needed = set(re.findall(r"^\s*(?:/\S*/)?([\w.+-]+\.so[.\d]*)", must("ldd", exporter), re.M))
    assert needed <= {
        "linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6",
        "libssl.so.3", "libcrypto.so.3", "libgcc_s.so.1",
    }


def compose():
    return yaml.safe_load(COMPOSE.read_text())


def test_compose_fits_the_specification():
    must(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_compose_as_docker_reads_it():
    if not shutil.which("docker") or run("docker", "compose", "version").returncode != 0:
        pytest.skip("no docker compose")
    must("docker", "compose", "-f", COMPOSE, "config", "--quiet")


def test_compose_mounts_exist_and_volumes_are_declared():
    content = compose()
    for name, service in content["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name}: {volume}"
            else:
                assert source in content["volumes"], f"{name}: {source}"
        for secret in service.get("secrets", []):
            assert secret in content["secrets"]
    for secret in content.get("secrets", {}).values():
        assert (DEPLOY / secret["file"]).exists()
    for config in content.get("configs", {}).values():
        assert (DEPLOY / config["file"]).exists()


def test_compose_is_for_this_machine_only():
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"
        if "build" not in service:
            assert re.search(r":[\w.-]*\d", service["image"]), f"{name}: {service['image']} has no version"


def test_compose_runs_the_exporter_as_it_should_run():
    exporter = compose()["services"]["rsolv-exporter"]
    assert exporter["read_only"] is True and exporter["cap_drop"] == ["ALL"]
    assert exporter["environment"].keys() <= ENVIRONMENT.keys()
    state, = exporter["volumes"]
    assert state.split(":")[1] == json.loads(final("VOLUME")[0])[0]
    assert (DEPLOY / exporter["build"]["context"]).resolve() == ROOT
    assert ROOT / exporter["build"]["dockerfile"] == DOCKERFILE
    assert exporter["environment"]["DATABASE_URL"].startswith("postgres://rsolv_exporter:")


def test_compose_names_are_those_of_the_configuration():
    """Prometheus finds the exporter and Alertmanager under the names of their services."""
    services = compose()["services"]
    prometheus = yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())
    job, = prometheus["scrape_configs"]
    targets = job["static_configs"][0]["targets"] + prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert {t.split(":")[0] for t in targets} <= services.keys()
    for target in targets:
        name, port = target.split(":")
        assert any(p.endswith(":" + port) for p in services[name]["ports"])
    folder, = [v.split(":")[1] for v in services["prometheus"]["volumes"] if v.startswith("../alerts:")]
    assert f"--config.file={folder}/prometheus.yml" in services["prometheus"]["command"]
    assert "--enable-feature=exemplar-storage" in services["prometheus"]["command"]
    assert all((ROOT / "alerts").glob(pattern) for pattern in prometheus["rule_files"])


def test_compose_grafana_finds_what_is_provisioned():
    services = compose()["services"]
    mounts = dict(v.split(":")[:2] for v in services["grafana"]["volumes"])
    assert mounts["../dashboards/provisioning"] == "/etc/grafana/provisioning"
    provisioning = ROOT / "dashboards/provisioning"
    for file in (provisioning / "dashboards").glob("*.yml"):
        for provider in yaml.safe_load(file.read_text())["providers"]:
            assert provider["options"]["path"] == mounts["../dashboards"]
    for file in (provisioning / "datasources").glob("*.yml"):
        for source in yaml.safe_load(file.read_text())["datasources"]:
            assert re.match(r"http://([\w-]+):", source["url"]).group(1) in services


def test_compose_role_script(postgres, database):
    """With the path at which the container has deploy/postgres replaced by the one here."""
    text = (DEPLOY / "compose/create-role.sh").read_text()
    mounted = [v for v in compose()["services"]["postgres"]["volumes"] if v.startswith("./postgres:")][0].split(":")[1]
    assert mounted in text
    done = subprocess.run(
        ["bash", "-c", text.replace(mounted, str(DEPLOY / "postgres"))],
        env=postgres.env(database, POSTGRES_USER="postgres", POSTGRES_DB=database, EXPORTER_PASSWORD="it's; a \"secret\""),
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert postgres.query(database, "SELECT rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname = 'rsolv_exporter'") == "t"
    must("psql", "-Xq", "-f", DEPLOY / "postgres/remove.sql", env=postgres.env(database))


def test_compose_writer(postgres, database, tmp_path):
    """Without its pauses it soon has written rows of every kind."""
    fast = tmp_path / "writer.sh"
    fast.write_text((DEPLOY / "compose/writer.sh").read_text().replace("sleep 2", "sleep 0"))
    writer = subprocess.Popen(["bash", fast], env=postgres.env(database), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(300):
            time.sleep(0.1)
            assert writer.poll() is None, writer.stdout.read()
            # Which kinds come is chance; a row that ran has been updated since.
            seen = postgres.query(database, """
                SELECT bool_or(status = 'completed') AND bool_or(status = 'failed')
                   AND bool_or(status = 'running' OR updated_at > inserted_at)
                   AND bool_or(error_message IS NOT NULL) AND bool_or(data ? 'testsGenerated')
                   AND (SELECT count(*) > 5 FROM mitigation_executions)
                FROM validation_executions""")
            if seen == "t":
                break
    finally:
        writer.terminate()
        writer.wait(10)
    assert seen == "t"
    assert postgres.query(database, """
        SELECT count(*) FROM mitigation_executions
        WHERE (data->>'trust_score')::numeric NOT BETWEEN 0 AND 100 OR completed_at < started_at""") == "0"


def test_as_process_1_it_reaps_what_others_have_left(exporter):
    """As in a container: a process that it did not start ends as its child."""
    if run("unshare", "--user", "--map-root-user", "--pid", "--fork", "true").returncode != 0:
        pytest.skip("no namespaces for this user")
    process = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "sh", "-c", 'sleep 0.2 & exec "$0" "$@"',
         str(exporter), "--database.url=postgres://nobody@127.0.0.1:1/none", "--web.listen-address=127.0.0.1:0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )

    def children(pid):
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return "".join(lists).split()

    try:
        while "msg=listening" not in process.stderr.readline():
            assert process.poll() is None
        first, = children(process.pid)
        for _ in range(600):
            if not children(first):
                break
            time.sleep(0.05)
        assert not children(first), "a zombie has stayed"
    finally:
        process.kill()
        process.wait(10)
