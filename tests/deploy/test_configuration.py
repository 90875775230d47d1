"""deploy/rsolv-exporter.toml names every setting, with its default, and nothing else."""

import re
import tomllib

from conftest import DEPLOY, SETTINGS, run

SAMPLE = DEPLOY / "rsolv-exporter.toml"


def flatten(tables):
    return {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}


def test_sample_as_shipped_sets_nothing():
    assert flatten(tomllib.loads(SAMPLE.read_text())) == {}


def test_sample_uncommented_has_every_key_with_its_default():
    uncommented = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", SAMPLE.read_text())
    values = flatten(tomllib.loads(uncommented))
    assert values.keys() == SETTINGS.keys()
    with_default = {key: value for key, value in SETTINGS.items() if value is not None}
    assert {key: values[key] for key in with_default} == with_default


def test_keys_without_a_default_say_so():
    text = SAMPLE.read_text()
    for key, default in SETTINGS.items():
        name = key.split(".")[1]
        comment = re.search(rf"((?:^#.*\n)+)# {name} = ", text, re.M).group(1).rsplit("\n\n")[-1].lower()
        assert ("no default" in comment) == (default is None), key


def test_exporter_has_the_same_settings_and_defaults(exporter):
    page = re.sub(r"\s+", " ", run(exporter, "--help").output)
    shown = dict(re.findall(r"--([a-z]+\.[a-z.-]+)[ \[=]+<[A-Z]+>\]?(.*?)(?= --[a-z]|$)", page))
    shown.pop("config.file")
    known = {
        "web.config.file" if key == "web.config_file" else key.replace("_", "-"): default
        for key, default in SETTINGS.items()
    }
    assert shown.keys() == known.keys()
    for flag, default in known.items():
        said = re.search(r"\[default: (.*?)\]", shown[flag])
        assert (said and said.group(1)) == (None if default is None else str(default).lower() if isinstance(default, bool) else str(default)), flag


def test_the_settings_that_are_installed_have_only_keys_that_exist():
    text = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", (DEPLOY / "debian/rsolv-exporter.toml").read_text())
    assert flatten(tomllib.loads(text)).keys() == {"database.url"}


def test_exporter_accepts_the_sample(exporter, tmp_path):
    """Every default uncommented, and an unreachable database: it may only complain about that."""
    text = SAMPLE.read_text()
    for key, default in SETTINGS.items():
        if default is not None:
            text = re.sub(rf"(?m)^# ({key.split('.')[1]} = )", r"\1", text)
    text = text.replace("[database]\n", '[database]\nurl = "postgres://nobody@127.0.0.1:1/none"\n', 1)
    config = tmp_path / "rsolv-exporter.toml"
    config.write_text(text)
    done = run(exporter, "once", f"--config.file={config}")
    assert done.returncode == 1, done.output
