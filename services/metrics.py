"""Prometheus metrics: counters kept here, everything else read from shared memory when it is scraped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from robot.joints import JOINTS
from robot.seams import Frame
from robot.telemetry import MODES, SOURCES, Record


class Readings(Protocol):
    """Where the collector reads."""

    def newest(self) -> Record | None:
        """The newest telemetry record."""

    def status(self) -> dict[str, Any]:
        """The controller's status."""

    def worker(self) -> dict[str, Any]:
        """The policy worker's status."""

    def service(self) -> dict[str, Any]:
        """The supervisor's board."""

    def frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera."""

    def camera(self, name: str) -> dict[str, Any]:
        """What the camera process says of one camera."""


_JOINT_GAUGES = (
    ("arm_joint_position", "Position in degrees, of the gripper in percent", "position", 1.0),
    ("arm_joint_temperature_celsius", "Temperature of each servo", "temperature_c", 1.0),
    ("arm_joint_voltage_volts", "Supply voltage at each servo", "voltage_v", 1.0),
    ("arm_joint_current_amperes", "Current of each servo", "current_ma", 1e-3),
    ("arm_joint_load_ratio", "Drive of each servo, 1 is full", "load_pct", 1e-2),
)
_GATE = ("clamped", "rate_limited", "table_limited", "self_limited", "box_limited", "non_finite")
_QUANTILES = (("0.5", "p50"), ("0.99", "p99"), ("0.999", "p999"), ("1", "max"))


class ArmCollector(Collector):
    """Turns the newest readings into metrics at every scrape.

    Args:
        readings: Link to shared memory.
        cameras: Names of the cameras.
        control_hz: To turn ticks into seconds.
        lag_ms: How far the arm is behind a person who drives it.
    """

    def __init__(
        self,
        readings: Readings,
        cameras: tuple[str, ...],
        control_hz: float,
        lag_ms: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._readings = readings
        self._cameras = cameras
        self._control_hz = control_hz
        self._lag_ms = lag_ms

    def collect(self) -> Iterator[Metric]:
        """All metrics but the counters of the API itself."""
        record = self._readings.newest()
        if record is not None:
            yield from self._control(record)
            yield from self._joints(record)
        yield from self._faults()
        yield from self._policy(record)
        yield from self._camera_metrics()

    def _camera_metrics(self) -> Iterator[Metric]:
        age = GaugeMetricFamily("camera_frame_age_seconds", "Age of the newest picture", labels=["camera"])
        rate = GaugeMetricFamily("camera_frame_rate_hertz", "Pictures per second", labels=["camera"])
        lost = CounterMetricFamily("camera_lost", "How often it had to be opened again", labels=["camera"])
        wrong = GaugeMetricFamily("camera_fault", "1 while this is wrong", labels=["camera", "code"])
        for name in self._cameras:
            frame = self._readings.frame(name)
            if frame is not None:
                age.add_metric([name], time.monotonic() - frame.time_s)
            told = self._readings.camera(name)
            rate.add_metric([name], float(told.get("fps", 0.0)))
            lost.add_metric([name], int(told.get("lost", 0)))
            for finding in told.get("findings", ()):
                wrong.add_metric([name, str(finding["code"])], 1.0)
        yield from (age, rate, lost, wrong)

    def _control(self, record: Record) -> Iterator[Metric]:
        lateness = GaugeMetricFamily(
            "arm_tick_lateness_seconds",
            "How late control ticks began, over the last minute",
            labels=["quantile"],
        )
        for quantile, name in _QUANTILES:
            lateness.add_metric([quantile], float(record[f"lateness_{name}_ms"]) / 1000.0)
        yield lateness
        yield _counter("arm_ticks_missed", "Control ticks that were skipped", int(record["missed"]))
        yield _counter("arm_ticks", "Control ticks", int(record["tick"]))
        yield _counter("arm_bus_errors", "Reads or writes of the bus that failed", int(record["bus_errors"]))
        yield _counter("arm_bus_retries", "Requests sent again for a lost answer", int(record["bus_retries"]))
        gate = CounterMetricFamily(
            "arm_gate_limited", "Ticks whose target the gate changed", labels=["reason"]
        )
        for reason in _GATE:
            gate.add_metric([reason], int(record[reason]))
        yield gate
        age_s = time.monotonic() - float(record["time_s"])
        yield GaugeMetricFamily("arm_telemetry_age_seconds", "Age of the newest telemetry", value=age_s)
        mode = GaugeMetricFamily("arm_mode", "1 for the present mode", labels=["mode"])
        for i, name in enumerate(MODES):
            mode.add_metric([name], float(i == int(record["mode"])))
        yield mode
        source = GaugeMetricFamily("arm_source", "1 for what drives the arm in a run", labels=["source"])
        for i, name in enumerate(SOURCES):
            source.add_metric([name], float(i == int(record["source"])))
        yield source
        lag_ms = self._lag_ms()
        if lag_ms is not None:
            text = "From a person's target to the arm's position"
            yield GaugeMetricFamily("teleop_lag_seconds", text, value=lag_ms / 1000.0)

    def _joints(self, record: Record) -> Iterator[Metric]:
        for name, text, column, scale in _JOINT_GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["joint"])
            for i, joint in enumerate(JOINTS):
                gauge.add_metric([joint], float(record[column][i]) * scale)
            yield gauge

    def _faults(self) -> Iterator[Metric]:
        latched = GaugeMetricFamily("arm_faults", "Latched faults", labels=["code", "severity"])
        seen: dict[tuple[str, str], int] = {}
        for fault in [
            *self._readings.status().get("faults", []),
            *self._readings.service().get("faults", []),
        ]:
            key = (str(fault.get("code")), str(fault.get("severity")))
            seen[key] = seen.get(key, 0) + 1
        for key, count in seen.items():
            latched.add_metric(list(key), count)
        yield latched
        restarts = CounterMetricFamily(
            "service_process_restarts", "Children started again", labels=["process"]
        )
        for name, info in self._readings.service().get("processes", {}).items():
            restarts.add_metric([name], int(info.get("restarts", 0)))
        yield restarts

    def _policy(self, record: Record | None) -> Iterator[Metric]:
        worker = self._readings.worker()
        latency = worker.get("latency_ms")
        if isinstance(latency, dict):
            gauge = GaugeMetricFamily(
                "policy_inference_latency_seconds", "Time of one inference", labels=["quantile"]
            )
            for quantile, key in (("0.5", "median"), ("0.99", "p99")):
                if isinstance(latency.get(key), int | float):
                    gauge.add_metric([quantile], float(latency[key]) / 1000.0)
            yield gauge
        if isinstance(worker.get("chunks"), int):
            yield _counter("policy_chunks", "Chunks that the policy worker sent", worker["chunks"])
        if record is not None and int(record["chunk_age_ticks"]) >= 0:
            yield GaugeMetricFamily(
                "policy_chunk_age_seconds",
                "Age of the newest chunk in use",
                value=int(record["chunk_age_ticks"]) / self._control_hz,
            )


class Metrics:
    """The registry of one API process."""

    def __init__(self, collectors: Iterable[Collector] = ()) -> None:
        self.registry = CollectorRegistry()
        for collector in collectors:
            self.registry.register(collector)
        self._pickups = Counter("pickups", "Pickups that ended", ["result"], registry=self.registry)
        for result in ("succeeded", "failed", "cancelled"):
            self._pickups.labels(result)
        self._requests = Counter(
            "api_requests", "HTTP requests", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "api_request_duration_seconds",
            "Time to the start of the answer",
            ["route"],
            registry=self.registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        )

    def pickup(self, result: str) -> None:
        """Count a pickup that ended."""
        self._pickups.labels(result).inc()

    def request(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count a request; ``route`` is the pattern, so that there are only few of them."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(duration_s)

    def text(self) -> bytes:
        """What ``GET /metrics`` answers."""
        return generate_latest(self.registry)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)
