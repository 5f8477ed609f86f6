from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from robot.errors import DatasetError
from robot.recording.features import Feature, arm_features, parse_features, table_schema, to_arrow


def test_info_entries_are_lerobots_to_the_letter() -> None:
    names = [
        f"{j}.pos"
        for j in ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    ]
    action, state, pickup = arm_features(environment_state=True)
    assert (action.name, state.name) == ("action", "observation.state")
    assert action.to_info() == state.to_info() == {"dtype": "float32", "shape": [6], "names": names}
    assert pickup.name == "observation.environment_state"
    assert pickup.to_info() == {"dtype": "float32", "shape": [2], "names": ["pickup_x_m", "pickup_y_m"]}
    assert Feature("index", "int64", (1,)).to_info() == {"dtype": "int64", "shape": [1], "names": None}


def test_schema_has_fixed_lists_scalars_and_hugging_face_metadata() -> None:
    features = (Feature("action", "float32", (6,)), Feature("next.done", "bool", (1,)))
    schema = table_schema((*features, Feature("observation.images.a", "video", (32, 48, 3))))
    assert schema.names == ["action", "next.done"]
    assert schema.field("action").type == pa.list_(pa.float32(), 6)
    assert schema.field("next.done").type == pa.bool_()
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert described["action"] == {
        "feature": {"dtype": "float32", "_type": "Value"},
        "length": 6,
        "_type": "List",
    }
    assert described["next.done"] == {"dtype": "bool", "_type": "Value"}


def test_info_round_trip_keeps_unknown_keys() -> None:
    video = Feature(
        "observation.images.a", "video", (32, 48, 3), ("height", "width", "channels"), {"info": {"x": 1}}
    )
    features = (*arm_features(environment_state=False), video)
    assert parse_features({f.name: f.to_info() for f in features}) == features


@pytest.mark.parametrize(
    ("dtype", "shape", "value", "says"),
    [
        ("float32", (6,), np.zeros(5), "shape"),
        ("float32", (6,), np.zeros((1, 6)), "shape"),
        ("float32", (6,), np.zeros(6, dtype=int), "int64"),
        ("float32", (6,), ["1"] * 6, "<U1"),
        ("float32", (6,), None, "object"),
        ("float32", (2,), np.array([0.0, np.nan]), "finite"),
        ("float32", (2,), np.array([np.inf, 0.0]), "finite"),
        ("float32", (1,), 1e39, "finite"),
        ("int64", (1,), 1.5, "float64"),
        ("bool", (1,), 1, "int64"),
        ("video", (32, 48, 3), np.zeros((32, 48, 3)), "uint8"),
        ("video", (32, 48, 3), np.zeros((48, 32, 3), np.uint8), "shape"),
    ],
)
def test_wrong_values_are_refused(dtype: str, shape: tuple[int, ...], value: object, says: str) -> None:
    with pytest.raises(DatasetError, match=rf"^some\.name: .*{says}"):
        Feature("some.name", dtype, shape).check(value)


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [("a/b", "float32", (1,)), ("", "float32", (1,)), ("a", "string", (1,)), ("a", "float32", (2, 2)),
     ("a", "video", (31, 48, 3)), ("a", "video", (32, 48, 1))],
)  # fmt: skip
def test_impossible_features_are_refused(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(DatasetError):
        Feature(name, dtype, shape)


def test_scalars_and_vectors_to_arrow() -> None:
    scalar = to_arrow(Feature("a", "int64", (1,)), np.array([[1], [2]]))
    assert scalar.to_pylist() == [1, 2]
    vector = to_arrow(Feature("a", "float64", (2,)), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert vector.to_pylist() == [[1, 2], [3, 4]]
