"""``GET /v1/state``: everything there is to know about the arm and its service, in one JSON object."""

from __future__ import annotations

import math
import time
from typing import Any

from robot.joints import GRIPPER, JOINTS
from robot.kinematics import GRIPPER_SPAN_RAD
from robot.telemetry import MODES, Record
from services.api.context import Context
from services.api.link import FRESH_S

SILENT_ID = "api-1"
"""Id of the fault that the controller says nothing; it goes when the controller is back."""
GRIPPER_DEG_PER_PCT = math.degrees(GRIPPER_SPAN_RAD) / 100.0


def joints(record: Record) -> dict[str, dict[str, float]]:
    """Read-outs of every joint; units are in the names. The gripper's speed is that of its jaw in degrees."""
    readouts: dict[str, dict[str, float]] = {}
    for i, name in enumerate(JOINTS):
        unit = "pct" if i == GRIPPER else "deg"
        speed = float(record["velocity"][i]) * (GRIPPER_DEG_PER_PCT if i == GRIPPER else 1.0)
        readouts[name] = {
            f"position_{unit}": round(float(record["position"][i]), 3),
            f"goal_{unit}": round(float(record["goal"][i]), 3),
            "velocity_dps": round(speed, 2),
            "load_pct": round(float(record["load_pct"][i]), 1),
            "current_ma": round(float(record["current_ma"][i]), 1),
            "voltage_v": round(float(record["voltage_v"][i]), 2),
            "temperature_c": round(float(record["temperature_c"][i]), 1),
            "status": int(record["status"][i]),
        }
    return readouts


def faults(context: Context) -> list[dict[str, Any]]:
    """Faults of the arm and of the service in one list, the arm's first."""
    found = [*context.link.status().get("faults", []), *context.link.service().get("faults", [])]
    codes = {fault.get("code") for fault in found}
    record = context.link.newest()
    if record is not None and not context.link.controller_alive() and "controller_lost" not in codes:
        silent_s = time.monotonic() - float(record["time_s"])
        found.append(
            {
                "id": SILENT_ID,
                "code": "controller_silent",
                "severity": "hold",
                "joint": None,
                "message": f"the controller has said nothing for {silent_s:.1f} s",
                "remedy": "it is started again by itself; if not, look at the service's log",
                "raised_s": float(record["time_s"]),
                "active": True,
            }
        )
    return found + camera_faults(context)


def clearable(fault: dict[str, Any]) -> bool:
    """Whether a person can clear a fault: none that goes by itself, nor one that only slows and lasts on."""
    by_itself = fault.get("severity") == "warn" or fault.get("id") == SILENT_ID
    return not by_itself and not (fault.get("severity") == "slow" and fault.get("active"))


def camera_faults(context: Context) -> list[dict[str, Any]]:
    """What is wrong with cameras, as warnings: they come and go by themselves and stop only who looks."""
    return [
        {
            "id": f"{finding['code']}-{camera.name}",
            "code": finding["code"],
            "severity": "warn",
            "joint": None,
            "camera": camera.name,
            "message": finding["message"],
            "remedy": finding["remedy"],
            "raised_s": finding["raised_s"],
            "active": True,
        }
        for camera in context.config.cameras
        for finding in context.link.camera(camera.name).get("findings", ())
    ]


def mode(context: Context) -> str:
    """The controller's mode; ``fault`` while it is gone, ``off`` before it has come up."""
    record = context.link.newest()
    if record is None:
        return "off"
    if not context.link.controller_alive():
        return "fault"
    status_mode = context.link.status().get("mode")
    return str(status_mode) if status_mode in MODES else MODES[int(record["mode"])]


def policy(context: Context) -> dict[str, Any] | None:
    """The loaded policy and its worker, ``None`` where the service runs without one."""
    bundle = context.description.get("policy")
    if bundle is None:
        return None
    worker = context.link.worker()
    known = (
        "name",
        "provider",
        "precision",
        "latency_ms",
        "chunks",
        "error",
        "waiting",
        "policy_type",
        "chunk_size",
        "fps",
    )
    alive = context.link.service().get("processes", {}).get("worker", {}).get("state", "running") == "running"
    return {
        "bundle": bundle,
        "state": str(worker.get("state", "loading")) if alive else "restarting",
        **{key: worker[key] for key in known if key in worker},
    }


def cameras(context: Context) -> dict[str, dict[str, Any]]:
    """Age of every camera's newest picture, ``null`` before the first; how the camera does, and its error."""
    found: dict[str, dict[str, Any]] = {}
    for camera in context.config.cameras:
        frame = context.link.frame(camera.name)
        age_ms = None if frame is None else round(1000 * (time.monotonic() - frame.time_s), 1)
        told = context.link.camera(camera.name)
        found[camera.name] = {
            "width_px": camera.width_px,
            "height_px": camera.height_px,
            "age_ms": age_ms,
            "frame": 0 if frame is None else frame.index,
            "calibrated": camera.name in context.table_maps,
            "state": told.get("state"),
            "error": told.get("error"),
            "fps": told.get("fps"),
            "findings": [finding["code"] for finding in told.get("findings", ())],
        }
    return found


def control(record: Record | None, hz: float, realtime: dict[str, Any] | None) -> dict[str, Any]:
    """How well the control loop keeps time, what the kernel grants it, and what the gate had to do."""
    if record is None:
        return {"hz": hz, "realtime": realtime}
    return {
        "hz": hz,
        "realtime": realtime,
        "lateness_ms": {
            key: round(float(record[f"lateness_{key}_ms"]), 3) for key in ("p50", "p99", "p999", "max")
        },
        "missed": int(record["missed"]),
        "counters": {
            key: int(record[key])
            for key in (
                "clamped",
                "rate_limited",
                "table_limited",
                "self_limited",
                "box_limited",
                "non_finite",
                "bus_errors",
            )
        },
    }


def state(context: Context) -> dict[str, Any]:
    """The whole answer."""
    record = context.link.newest()
    status = context.link.status()
    service = context.link.service()
    hz = float(context.config.control_hz)
    active = context.pickups.active
    chunk_age = -1 if record is None else int(record["chunk_age_ticks"])
    return {
        "mode": mode(context),
        "reason": status.get("reason") or None,
        "tick": None if record is None else int(record["tick"]),
        "age_ms": None if record is None else round(1000 * (time.monotonic() - float(record["time_s"])), 1),
        "fresh": record is not None and time.monotonic() - float(record["time_s"]) < FRESH_S,
        "joints": {} if record is None else joints(record),
        "tool": None
        if record is None
        else {f"{axis}_m": round(float(record["tool_m"][i]), 4) for i, axis in enumerate("xyz")},
        "run": {
            "run_id": status.get("run_id"),
            "source": status.get("source"),
            "pickup": None if active is None else active.id,
            "intervening": context.teleop.corrected is not None,
            "chunk_age_ms": None if chunk_age < 0 else round(1000 * chunk_age / hz, 1),
        },
        "faults": faults(context),
        "events": service.get("events", [])[::-1],
        "control": control(record, hz, status.get("realtime")),
        "policy": policy(context),
        "execution": context.description.get("execution"),
        "cameras": cameras(context),
        "processes": service.get("processes", {}),
        "robot": {"name": context.config.name, "kind": context.config.kind},
    }
