"""Every shell script passes shellcheck; every document's links lead somewhere."""

import re

import pytest

from conftest import DEPLOY, ROOT, TOOLS, must

SCRIPTS = sorted(
    p for folder in (DEPLOY, ROOT / "tests/deploy") for p in folder.rglob("*")
    if p.is_file() and p.read_bytes()[:2] == b"#!" and "sh" in p.open().readline()
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_shellcheck(script):
    must(TOOLS / "shellcheck", "--enable=quote-safe-variables", script)
    assert script.stat().st_mode & 0o111, "not executable"


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("*.md")), ids=lambda p: str(p.relative_to(ROOT)))
def test_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = {}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
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
