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


def test_the_changelog_of_the_package_is_of_this_version():
    first = (ROOT / "deploy/debian/changelog").read_text().splitlines()[0]
    assert first.startswith(f"rsolv-exporter ({CARGO['package']['version']}-1) ")


def test_package(exporter, tmp_path):
    tools = f"{ROOT}/.tools/cargo/bin:{os.environ['PATH']}"
    if not shutil.which("cargo-deb", path=tools):
        pytest.skip("no cargo-deb")
    (tmp_path / "licenses.txt").write_text("MIT\n")
    package = tmp_path / "rsolv-exporter.deb"
    program = tmp_path / "rsolv-exporter"
    must("strip", "-o", program, exporter)
    must(ROOT / "deploy/debian/package.sh", program, tmp_path / "licenses.txt", package,
         env=os.environ | {"PATH": tools, "DPKG_DEB_COMPRESSOR_TYPE": "gzip"})

    depends = must("dpkg-deb", "--field", package, "Depends")
    for library in ("libc6", "libgcc-s1", "libssl3"):
        assert library in depends, depends

    root = tmp_path / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/updates").mkdir()
    (root / "var/lib/dpkg/status").touch()
    # The libraries it depends on are this machine's, not that root's; its scripts mind $DPKG_ROOT.
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--force-not-root"]
    must(*dpkg, "-i", package)
    listed = must("dpkg", f"--root={root}", "-L", "rsolv-exporter").splitlines()
    for path in ("/usr/bin/rsolv-exporter", "/etc/rsolv-exporter/rsolv-exporter.toml",
                 "/usr/share/rsolv-exporter/deploy/smoke-test.sh", "/usr/share/rsolv-exporter/deploy/postgres/role.sql",
                 "/usr/share/rsolv-exporter/README.md", "/usr/share/rsolv-exporter/alerts/README.md",
                 "/usr/share/doc/rsolv-exporter/examples/rsolv-exporter.toml", "/usr/share/man/man1/rsolv-exporter.1.gz",
                 "/usr/share/rsolv-exporter/dashboards/rsolv-executions.json",
                 "/usr/share/rsolv-exporter/alerts/alertmanager.yml"):
        assert path in listed
    for folder, pattern in (("queries", "*"), ("alerts", "*.yml"), ("alerts/runbooks", "*.md"), ("dashboards", "*.json")):
        shipped = {p.name for p in (ROOT / folder).glob(pattern)}
        assert shipped <= {p.name for p in (root / "usr/share/rsolv-exporter" / folder).glob(pattern)}, folder
    credentials = root / "etc/rsolv-exporter/credentials"
    assert credentials.stat().st_mode & 0o777 == 0o700
    unit, = [p for p in listed if p.endswith("system/rsolv-exporter.service")]
    template = root / (unit[1:].replace(".service", "@.service"))
    assert template.read_text() == (root / unit[1:]).read_text()
    installed = tmp_path / "rsolv-exporter.service"
    installed.write_text((root / unit[1:]).read_text().replace("ExecStart=", f"ExecStart={root}"))
    verified = run("systemd-analyze", "verify", "--man=no", installed)
    assert verified.returncode == 0, verified.output
    must(root / "usr/bin/rsolv-exporter", "--version")

    # What the administrator has written survives an upgrade, and removal.
    settings = root / "etc/rsolv-exporter/rsolv-exporter.toml"
    settings.write_text("[log]\n")
    (credentials / "database-password").write_text("secret")
    unpacked = tmp_path / "unpacked"
    must("dpkg-deb", "--raw-extract", package, unpacked)
    control = unpacked / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: ", "Version: 99.", 1))
    must("dpkg-deb", "--build", "--root-owner-group", unpacked, tmp_path / "newer.deb")
    # It asks nothing: the settings are the same in every release, the sample with all of them is no configuration.
    must(*dpkg, "-i", tmp_path / "newer.deb")
    assert must("dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W", "-f=${Version}", "rsolv-exporter").startswith("99.")
    assert settings.read_text() == "[log]\n"
    must(*dpkg, "--remove", "rsolv-exporter")
    assert settings.read_text() == "[log]\n"
    assert (credentials / "database-password").exists()

    # Purging takes all of it, and the states, also of instances.
    (root / "etc/rsolv-exporter@x/credentials").mkdir(parents=True)
    (root / "var/lib/private/rsolv-exporter@x").mkdir(parents=True)
    state = root / "var/lib/private/rsolv-exporter"
    state.mkdir(parents=True)
    (state / "state").write_text("counted")
    (root / "var/lib/rsolv-exporter").symlink_to("private/rsolv-exporter")
    must(*dpkg, "--purge", "rsolv-exporter")
    left = [str(p.relative_to(root)) for p in root.rglob("*") if "rsolv" in p.name and "var/log" not in str(p)]
    assert left == []

