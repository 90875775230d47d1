"""The Debian package: made, installed into a root of its own, removed, purged."""

import os
import shutil
import tomllib

import pytest

from conftest import ROOT, must, run

CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())
DEB = CARGO["package"].get("metadata", {}).get("deb")

pytestmark = pytest.mark.skipif(DEB is None, reason="Cargo.toml does not describe a package")


def test_assets_exist():
    for source, *_ in DEB["assets"]:
        if not source.startswith("target/"):
            assert list(ROOT.glob(source)), source
    assert (ROOT / DEB["license-file"][0]).exists() and (ROOT / DEB["changelog"]).exists()


def test_package(exporter, tmp_path):
    tools = f"{ROOT}/.tools/cargo/bin:{os.environ['PATH']}"
    if not shutil.which("cargo-deb", path=tools):
        pytest.skip("no cargo-deb")
    (tmp_path / "target/release").mkdir(parents=True)
    shutil.copy(exporter, tmp_path / "target/release/rsolv-exporter")
    package = tmp_path / "rsolv-exporter.deb"
    must("cargo", "deb", "--no-build", "--no-strip", "--output", package, cwd=ROOT,
         env=os.environ | {"PATH": tools, "CARGO_TARGET_DIR": str(tmp_path / "target")})

    root = tmp_path / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/updates").mkdir()
    (root / "var/lib/dpkg/status").touch()
    # The libraries it depends on are this machine's, not that root's; its scripts mind $DPKG_ROOT.
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--force-not-root"]
    must(*dpkg, "-i", package)
    listed = must("dpkg", f"--root={root}", "-L", "rsolv-exporter").splitlines()
    for path in ("/usr/bin/rsolv-exporter", "/etc/rsolv-exporter/rsolv-exporter.toml",
                 "/usr/share/rsolv-exporter/smoke-test.sh", "/usr/share/rsolv-exporter/postgres/role.sql",
                 "/usr/share/rsolv-exporter/dashboards/rsolv-executions.json",
                 "/usr/share/rsolv-exporter/alerts/alertmanager.yml"):
        assert path in listed
    for folder, pattern in (("queries", "*"), ("alerts", "*.yml"), ("alerts/runbooks", "*.md"), ("dashboards", "*.json")):
        shipped = {p.name for p in (ROOT / folder).glob(pattern)}
        assert shipped <= {p.name for p in (root / "usr/share/rsolv-exporter" / folder).glob(pattern)}, folder
    credentials = root / "etc/rsolv-exporter/credentials"
    assert credentials.stat().st_mode & 0o777 == 0o700
    unit, = [p for p in listed if p.endswith("/rsolv-exporter.service")]
    installed = tmp_path / "rsolv-exporter.service"
    installed.write_text((root / unit[1:]).read_text().replace("ExecStart=", f"ExecStart={root}"))
    verified = run("systemd-analyze", "verify", "--man=no", installed)
    assert verified.returncode == 0, verified.output
    must(root / "usr/bin/rsolv-exporter", "--version")

    # What the administrator has written survives removal, not purging.
    (root / "etc/rsolv-exporter/rsolv-exporter.toml").write_text("[log]\n")
    (credentials / "database-password").write_text("secret")
    must(*dpkg, "--remove", "rsolv-exporter")
    assert (root / "etc/rsolv-exporter/rsolv-exporter.toml").read_text() == "[log]\n"
    assert (credentials / "database-password").exists()
    must(*dpkg, "--purge", "rsolv-exporter")
    assert not (root / "etc/rsolv-exporter").exists()
