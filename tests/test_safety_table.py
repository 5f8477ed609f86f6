"""The table of faults in docs/safety.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
TABLE = TESTS.parent / "docs" / "safety.md"
ROW = re.compile(r"^\| *\d* *\|")
FILE = re.compile(r"(?P<file>(?:\w+/)*test_\w+\.py)(?:: (?P<words>\w+))?")


def functions(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def named(cell: str) -> list[tuple[Path, str]]:
    """Files and words of test names in a cell such as ``a/test_b.py: c``, ``d``, ``test_e.py``."""
    pairs: list[tuple[Path, str]] = []
    for quoted in re.findall(r"`([^`]+)`", cell):
        match = FILE.fullmatch(quoted)
        if match is None:  # another test of the file before it
            pairs.append((pairs[-1][0], quoted))
            continue
        path = Path(match["file"])
        folder = TESTS if path.parent != Path() else TESTS / "faults"
        pairs.append((folder / path, match["words"] or "test_"))
    return pairs


def test_each_row_names_tests_that_exist() -> None:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if ROW.match(line)]
    assert len(rows) > 25
    for row in rows:
        pairs = named(row.split("|")[4])
        assert pairs, f"no test in: {row}"
        for path, words in pairs:
            assert path.is_file(), f"no {path} for: {row}"
            assert any(name.startswith("test_") and words in name for name in functions(path)), (path, words)
