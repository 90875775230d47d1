"""The unit file: valid, hardened, and in step with the sample configuration."""

import re

from conftest import DEPLOY, ENVIRONMENT, run

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
    assert environment["RSOLV_EXPORTER_STATE__FILE"] == f"%S/{values['StateDirectory']}/state"
    name = values["LoadCredential"].split(":")[0]
    assert environment["RSOLV_EXPORTER_DATABASE__PASSWORD_FILE"] == f"%d/{name}"


def test_readiness_is_reported():
    assert dict(directives())["Type"] == "notify"
