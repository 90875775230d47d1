"""Every shell script passes shellcheck; every document's links lead somewhere, in the package too."""

import re

import pytest

from conftest import DEPLOY, ROOT, TOOLS, must

SCRIPTS = sorted(
    p for folder in (DEPLOY, ROOT / "tests/deploy") for p in folder.rglob("*")
    if p.is_file() and p.read_bytes()[:2] == b"#!" and "sh" in p.open().readline()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_shellcheck(script):
    must(TOOLS / "shellcheck", "--external-sources", "--enable=quote-safe-variables", script)
    assert script.stat().st_mode & 0o111, "not executable"


# What the Debian package holds, under the same paths.
PACKAGED = {"LICENSE", "README.md", "CHANGELOG.md", "doc", "queries", "alerts", "dashboards", "deploy"}
PAGES = sorted(p for name in PACKAGED for p in [ROOT / name, *(ROOT / name).rglob("*.md")] if p.suffix == ".md")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(page):
    """Each leads to a file that the package has as well."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = {}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.relative_to(ROOT).parts[0] in PACKAGED, f"{target} leads out of the package"
        if anchor:
            if file not in headings:
                headings[file] = {
                    re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-")
                    for h in re.findall(r"(?m)^#+ (.*)$", file.read_text())
                }
            assert anchor in headings[file], target


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("*.md")), ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_in_documents_exist(page):
    """`deploy/…` in running text and in commands is a file of this repository."""
    for path in re.findall(r"(?<![\w/.-])((?:deploy|alerts|dashboards|queries|tests)/[\w./-]*[\w/])", page.read_text()):
        assert (ROOT / path).exists(), path
