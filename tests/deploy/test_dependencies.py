"""What deploy/deny.toml asks of the dependencies, as far as Cargo alone can tell: a quick look in every run.
The whole of it is deploy/check-dependencies.sh, whose cargo-deny takes minutes to build."""

import collections
import copy
import functools
import json
import os
import re
import shutil
import tomllib

import pytest

from conftest import DEPLOY, ROOT, must, run

DENY = tomllib.loads((DEPLOY / "deny.toml").read_text())
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"

pytestmark = pytest.mark.skipif(not shutil.which("cargo"), reason="no cargo")


@functools.cache
def metadata():
    """What is built from Cargo.lock for the systems of the release: dependencies' dependencies and all."""
    platforms = [f"--filter-platform={target}" for target in DENY["graph"]["targets"]]
    return json.loads(must("cargo", "metadata", "--locked", "--format-version=1", *platforms, cwd=ROOT))


def acceptable(expression, allowed):
    """Whether an SPDX expression can be fulfilled with the allowed licences. AND binds tighter than OR;
    crates of old write / for OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        good = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            good = both() or good
        return good

    def both():
        good = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            good = one() and good
        return good

    def one():
        name = tokens.pop(0)
        if name == "(":
            good = either()
            assert tokens.pop(0) == ")", expression
            return good
        assert re.fullmatch(r"[\w.+-]+", name) and name not in ("AND", "OR", "WITH"), expression
        if tokens and tokens[0] == "WITH":
            name = f"{name} {tokens.pop(0)} {tokens.pop(0)}"
        return name in allowed

    good = either()
    assert not tokens, expression
    return good


def objections(metadata):
    """One line for each thing about a dependency that deny.toml does not allow."""
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [p for p in metadata["packages"] if p["id"] in used]
    ours = next(p for p in packages if p["id"] == metadata["resolve"]["root"])
    for package in packages:
        at = f"{package['name']} {package['version']}"
        if not package["license"]:
            yield f"{at}: names no licence"
        elif not acceptable(package["license"], DENY["licenses"]["allow"]):
            yield f"{at}: {package['license']}"
        if package is not ours and package["source"] != CRATES_IO:
            yield f"{at}: from {package['source']}"
        if package["name"] in [banned["crate"] for banned in DENY["bans"]["deny"]]:
            yield f"{at}: banned"
    skipped = [skip["crate"] for skip in DENY["bans"].get("skip", [])]
    times = collections.Counter(p["name"] for p in packages if f"{p['name']}@{p['version']}" not in skipped)
    for dependency in ours["dependencies"]:
        if times[dependency["name"]] > 1:
            yield f"{dependency['name']}: {times[dependency['name']]} versions of a dependency of ours"
        if dependency["req"] == "*":
            yield f"{dependency['name']}: any version would do"


def test_dependencies_are_as_deny_toml_wants_them():
    assert sorted(objections(metadata())) == []


@pytest.mark.parametrize("change, objection", [
    ({"license": "GPL-3.0-only"}, "GPL-3.0-only"),
    ({"license": "MIT AND AGPL-3.0-only"}, "MIT AND AGPL-3.0-only"),
    ({"license": None}, "names no licence"),
    ({"source": "git+https://example.com/bytes"}, "from git+https://example.com/bytes"),
    ({"source": None}, "from None"),
    ({"name": "openssl-src"}, "banned"),
], ids=str)
def test_what_it_does_not_want_is_found(change, objection):
    changed = copy.deepcopy(metadata())
    package = next(p for p in changed["packages"] if p["name"] == "bytes")
    package.update(change)
    assert list(objections(changed)) == [f"{package['name']} {package['version']}: {objection}"]


def test_a_second_version_of_a_dependency_is_found():
    changed = copy.deepcopy(metadata())
    package = copy.deepcopy(next(p for p in changed["packages"] if p["name"] == "hyper"))
    package.update(id="another", version="0.14.0")
    changed["packages"].append(package)
    changed["resolve"]["nodes"].append({"id": "another"})
    assert "hyper: 2 versions of a dependency of ours" in set(objections(changed))


@pytest.mark.parametrize("expression, good", {
    "MIT": True, "MIT OR GPL-3.0-only": True, "GPL-3.0-only OR MIT": True, "GPL-3.0-only/MIT": True,
    "MIT AND GPL-3.0-only": False, "(MIT OR GPL-3.0-only) AND Zlib": True, "MIT OR Zlib AND GPL-3.0-only": True,
    "(MIT OR Zlib) AND GPL-3.0-only": False, "Apache-2.0 WITH LLVM-exception": False,
    "Apache-2.0 WITH LLVM-exception OR MIT": True, "Unlicense": False,
}.items())
def test_expressions(expression, good):
    assert acceptable(expression, {"MIT", "Zlib", "Apache-2.0"}) is good


def test_every_allowed_licence_is_in_use():
    """One that nothing needs any more would let the next crate in unseen."""
    every = {p["license"] for p in metadata()["packages"]}
    for licence in DENY["licenses"]["allow"]:
        without = set(DENY["licenses"]["allow"]) - {licence}
        assert not all(acceptable(expression, without) for expression in every), licence


def test_whole_check():
    """With cargo-deny, where it has been built (`make deny` does)."""
    tools = f"{ROOT}/.tools/cargo/bin:{os.environ['PATH']}"
    if not shutil.which("cargo-deny", path=tools):
        pytest.skip("no cargo-deny: `make deny` installs it")
    done = run(DEPLOY / "check-dependencies.sh", timeout=300)
    assert done.returncode == 0, done.output
    assert "bans ok, licenses ok, sources ok" in done.output, done.output
    assert "advisories ok" in done.output or "advisories NOT CHECKED" in done.output, done.output
