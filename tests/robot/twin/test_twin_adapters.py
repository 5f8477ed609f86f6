"""Ports come, go and change places as USB adapters do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot import packets
from robot.errors import PortError
from robot.port import SerialPort
from robot.twin.adapters import Adapters
from robot.twin.emulator import BusEmulator
from robot.twin.wire import PtyWire
from robot.twin.world import World


@pytest.fixture
def adapters(tmp_path: Path) -> Iterator[Adapters]:
    world = World()
    wires = {
        arm: PtyWire(BusEmulator(bank))
        for arm, bank in (("follower", world.follower), ("leader", world.leader))
    }
    adapters = Adapters(wires, tmp_path)
    yield adapters
    adapters.close()


def behind(adapters: Adapters, arm: str) -> str:
    return os.path.realpath(adapters.by_id[arm])


def test_links_lead_to_ports(adapters: Adapters) -> None:
    assert behind(adapters, "follower") == adapters._wires["follower"].path
    assert behind(adapters, "leader") == adapters._wires["leader"].path


def test_unplugged_means_errors_for_the_owner_and_no_device(adapters: Adapters) -> None:
    path = behind(adapters, "follower")
    port = SerialPort(adapters.by_id["follower"])
    adapters.happen("unplug", "follower")
    with pytest.raises(PortError, match="is gone"):
        port.read_until(0.0)
    with pytest.raises(PortError, match="is gone"):
        port.write(b"x")
    port.close()
    assert not Path(path).exists()
    with pytest.raises(OSError, match="No such") as caught:
        os.open(adapters.by_id["follower"], os.O_RDWR)
    assert caught.value.errno == errno.ENOENT
    assert behind(adapters, "leader") == adapters._wires["leader"].path


def test_replugged_under_a_new_name_behind_the_same_link(adapters: Adapters) -> None:
    former = behind(adapters, "follower")
    adapters.happen("unplug", "follower")
    adapters.happen("unplug", "follower")
    adapters.happen("replug", "follower")
    now = behind(adapters, "follower")
    assert now != former
    adapters.happen("replug", "follower")
    assert behind(adapters, "follower") == now
    SerialPort(adapters.by_id["follower"]).close()


def test_renamed_while_it_is_owned(adapters: Adapters) -> None:
    former = behind(adapters, "follower")
    port = SerialPort(adapters.by_id["follower"])
    adapters.happen("rename", "follower")
    with pytest.raises(PortError, match="is gone"):
        port.read_until(0.0)
    assert behind(adapters, "follower") != former
    anew = SerialPort(adapters.by_id["follower"])  # the old owner's claim does not hold the new port
    anew.close()
    port.close()


def test_swapped_links_stay_swapped_when_a_port_is_renamed(adapters: Adapters) -> None:
    wires = adapters._wires
    adapters.happen("swap", "follower")
    assert behind(adapters, "follower") == wires["leader"].path
    adapters.happen("rename", "follower")
    assert behind(adapters, "leader") == wires["follower"].path
    adapters.happen("swap", "leader")
    assert behind(adapters, "follower") == wires["follower"].path


def test_mended_adapters_are_plugged_in_behind_their_own_links(adapters: Adapters) -> None:
    leader = behind(adapters, "leader")
    adapters.happen("swap", "follower")
    adapters.happen("unplug", "follower")
    adapters.mend()
    assert behind(adapters, "follower") == adapters._wires["follower"].path
    assert behind(adapters, "leader") == leader


def test_what_was_on_its_way_is_lost_with_the_port(adapters: Adapters) -> None:
    emulator = adapters._wires["follower"].emulator
    emulator.feed(packets.ping(1) + packets.ping(2)[:4], 0.0)
    adapters.happen("rename", "follower")
    assert emulator.next_due_s is None
    emulator.feed(packets.ping(1), 0.001)
    assert emulator.due(1.0) == packets.status(1, 0)
