"""A session with LeRobot's own SO-101 classes, run in LeRobot's interpreter by test_lerobot.py.

    PYTHON -u lerobot_session.py FOLLOWER_PORT LEADER_PORT

What LeRobot asks its user is asked on stdout and answered on stdin; nothing of it is replaced.
"""

from __future__ import annotations

import json
import sys
import time

from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig
from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig

FPS = 60


def main(follower_port: str, leader_port: str) -> None:
    follower = SO101Follower(SO101FollowerConfig(port=follower_port, id="twin"))
    leader = SO101Leader(SO101LeaderConfig(port=leader_port, id="twin"))
    follower.connect()
    print("follower connected")
    leader.connect()
    print("leader connected")
    while (seconds := float(input("teleoperate for how many seconds? "))) > 0.0:
        for _ in range(round(FPS * seconds)):
            action = follower.send_action(leader.get_action())
            seen = follower.get_observation()
            time.sleep(1 / FPS)
        print(json.dumps({"action": action, "observation": seen}))
    leader.disconnect()
    follower.disconnect()
    print("disconnected")


main(sys.argv[1], sys.argv[2])
