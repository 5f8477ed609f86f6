from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robot.adapters import CHIPS
from robot.errors import ConfigError
from services import udev
from services.cli import app


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\ndialout:x:20:ann\n", encoding="utf-8")
    return tmp_path


def test_rules_and_group_are_planned_and_written_once(root: Path) -> None:
    planned = udev.plan(root, "bob")
    assert planned.write and not planned.done
    assert [command[0] for command in planned.commands] == ["udevadm", "udevadm", "usermod"]
    assert not planned.rules.exists(), "planning changes nothing"
    udev.install(planned, run=False)
    assert (root / udev.RULES_PATH).read_text(encoding="utf-8") == planned.text
    assert (root / udev.RULES_PATH).stat().st_mode & 0o777 == 0o644
    assert list(planned.rules.parent.iterdir()) == [planned.rules]
    assert udev.plan(root, "ann").done
    assert udev.plan(root, "bob").commands == (("usermod", "--append", "--groups", "dialout", "bob"),)


def test_changed_rules_are_written_again(root: Path) -> None:
    udev.install(udev.plan(root, "ann"), run=False)
    (root / udev.RULES_PATH).write_text("# something else\n", encoding="utf-8")
    assert udev.plan(root, "ann").write


def test_other_distributions_group_is_found(root: Path) -> None:
    (root / "etc/group").write_text("uucp:x:14:\n", encoding="utf-8")
    assert 'GROUP="uucp"' in udev.plan(root, "bob").text
    (root / "etc/group").write_text("users:x:100:\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no group dialout or uucp"):
        udev.plan(root, "bob")


def test_a_user_without_a_name_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("services.udev.os.geteuid", lambda: 987_654)
    with pytest.raises(ConfigError, match="user 987654 has no name"):
        udev.plan(root)


def test_no_port_is_opened_to_everybody() -> None:
    modes = re.findall(r'MODE[:+]?="(\d+)"', udev.rules_text("dialout"))
    assert modes == ["0660"]


def test_every_chip_is_named_and_modem_manager_kept_off() -> None:
    text = udev.rules_text("dialout")
    for vendor, product in CHIPS:
        assert len(re.findall(f'"{vendor:04x}".*"{product:04x}"', text)) == 2  # as USB device and as tty
    assert text.count('ID_MM_DEVICE_IGNORE}="1"') == len(CHIPS) + 1
    # A rule is one line of KEY OP "value" pairs, comments aside.
    pair = r'[A-Z_]+(\{[A-Za-z0-9_]+\})?(==|!=|\+=|=)"[^"]*"'
    for line in filter(None, text.splitlines()):
        assert line.startswith("#") or re.fullmatch(f"{pair}(, {pair})*", line), line
    assert 60 < int(udev.RULES_PATH.name[:2]) < 73


def test_a_machine_without_udev_is_left_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.udev.shutil.which", lambda _: None)
    planned = udev.plan(root, "bob")
    with pytest.raises(ConfigError, match="has no udevadm"):
        udev.install(planned)
    assert not planned.rules.exists()


def test_a_command_that_fails_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.udev.shutil.which", lambda name: name)
    planned = udev.plan(root, "bob")
    failing = udev.Installation(
        planned.rules, planned.text, planned.group, planned.user, (("false", "--reload"),), planned.write
    )
    with pytest.raises(ConfigError, match="`false --reload` failed"):
        udev.install(failing)


def test_who_is_not_root_is_told_what_would_be_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = udev.plan(root, "bob")
    monkeypatch.setattr(udev, "plan", lambda *_: planned)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = CliRunner().invoke(app, ["ports", "--install"])
    assert result.exit_code == 1
    for line in [*planned.text.splitlines(), "usermod --append --groups dialout bob", "sudo "]:
        assert line in result.output
    assert not planned.rules.exists()


def test_cli_installs_into_another_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    result = CliRunner().invoke(app, ["ports", "--install", "--root", str(root)])
    assert result.exit_code == 0, result.output
    assert (root / udev.RULES_PATH).exists()
    assert "Nothing to do" in CliRunner().invoke(app, ["ports", "--install", "--root", str(root)]).output
