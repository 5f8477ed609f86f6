"""Datasets to the Hugging Face Hub, only when somebody asks for it."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from robot.errors import ConfigError, DatasetError, So101Error
from robot.recording import meta as layout
from robot.recording.creation import acquire
from robot.recording.reader import Dataset

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_OURS = ("meta/", "data/", "videos/")


class HubError(So101Error):
    """The Hub cannot be reached, or does not take what is given."""


def push(root: Path, repo_id: str, *, private: bool = True, endpoint: str | None = None) -> str:
    """Upload a dataset's finished episodes; makes the repository where there is none.

    What the repository has of an earlier upload is replaced in one commit, a card that is there stays, and
    the tag ``v3.0``, by which LeRobot finds datasets, is set to it.

    Args:
        root: the dataset's folder; nobody may be recording into it.
        repo_id: ``user/name``.
        private: whether a new repository is. One that exists stays what it is.
        endpoint: address of the Hub; by default what ``HF_ENDPOINT`` says, or the public one.

    Returns:
        The dataset's address.

    Raises:
        ConfigError: huggingface-hub is not installed, or ``repo_id`` is not ``user/name``.
        DatasetError: the dataset is broken, empty or being written.
        HubError: nobody is logged in, the Hub cannot be reached or refuses.
    """
    check_repo_id(repo_id)
    lock = acquire(root)
    try:
        files = finished_files(root)
        return _push(root, files, repo_id, private, endpoint)
    finally:
        os.close(lock)


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be pushed to, before anything is recorded. Contacts nobody.

    Raises:
        ConfigError: huggingface-hub is not installed, or ``repo_id`` is not ``user/name``.
    """
    if find_spec("huggingface_hub") is None:
        raise ConfigError(
            "huggingface-hub is not installed: pushing needs the extra 'hub' "
            "(pip install 'so101-deploy[hub]')"
        )
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} is no repository: give user/name ({error})") from error
    if "/" not in repo_id:
        raise ConfigError(f"{repo_id!r} is no repository: give user/name")


def finished_files(root: Path) -> list[str]:
    """Files of a dataset's finished episodes, relative to its folder: nothing half-made, nothing set aside.

    Raises:
        DatasetError: the dataset has no episodes, is broken, or one of its files is not there.
    """
    dataset = Dataset(root)
    if not dataset.episodes:
        raise DatasetError(f"{root} has no episodes to push")
    paths = {root / name for name in (layout.INFO_FILE, layout.STATS_FILE, layout.TASKS_FILE)}
    for table in sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet")):
        numbers = layout.read_table(table, ["episode_index"])["episode_index"].to_pylist()
        if min(numbers, default=len(dataset.episodes)) < len(dataset.episodes):
            paths.add(table)
    for episode in dataset.episodes:
        paths.add(episode.data.path(root, str(dataset.info["data_path"])))
        for key, span in episode.videos.items():
            paths.add(span.slot.path(root, str(dataset.info["video_path"]), key))
    missing = sorted(path for path in paths if not path.is_file())
    if missing:
        raise DatasetError(f"no {missing[0]}: the dataset is incomplete (so101 dataset check {root})")
    return sorted(path.relative_to(root).as_posix() for path in paths)


def card(dataset: Dataset, repo_id: str) -> str:
    """The text that the Hub shows: what is in the dataset, in which units, and how to open it."""
    minutes = dataset.total_frames / dataset.fps / 60.0
    tasks = "\n".join(f"* {task}" for task in dataset.tasks)
    info = json.dumps(dataset.info, indent=2, ensure_ascii=False)
    units = {"degrees": "degrees", "m100_100": "-100 to 100 of the range that the calibration swept"}
    said = units.get(dataset.units or "", "not said")
    return f"""---
task_categories: [robotics]
tags: [LeRobot, so101]
configs:
- config_name: default
  data_files: data/*/*.parquet
---

# {repo_id.partition("/")[2]}

{len(dataset.episodes)} episodes, {minutes:.1f} minutes at {dataset.fps:g} frames per second, of an SO-101 arm
({dataset.info.get("robot_type")}); cameras: {", ".join(dataset.cameras) or "none"}. A LeRobotDataset v3.0.

Units of the arm's joints: {said}; the gripper is 0 (closed) to 100 (open).

Tasks:

{tasks}

```python
from lerobot.datasets import LeRobotDataset

dataset = LeRobotDataset("{repo_id}")
```

`meta/info.json`:

```json
{info}
```
"""


def _push(root: Path, files: list[str], repo_id: str, private: bool, endpoint: str | None) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint)
    try:
        url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        commit = _commit(api, root, files, repo_id)
        # The tag is moved: LeRobot takes what it names, not the newest.
        names = {tag.name for tag in api.list_repo_refs(repo_id, repo_type="dataset").tags}
        if layout.CODEBASE_VERSION in names:
            api.delete_tag(repo_id, tag=layout.CODEBASE_VERSION, repo_type="dataset")
        api.create_tag(repo_id, tag=layout.CODEBASE_VERSION, revision=commit, repo_type="dataset")
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise HubError(
                f"the Hub lets nobody write to {repo_id} without a right token: run `hf auth login`, or set "
                "HF_TOKEN, with one that may write there"
            ) from error
        raise HubError(f"the Hub refused {repo_id}: {error}") from error
    except (httpx.HTTPError, OSError, RuntimeError) as error:  # the last is what failed uploads end in
        raise HubError(
            f"the Hub did not get it ({error.__cause__ or error}): the dataset is whole in {root}, push it "
            f"later with so101 dataset push {root} {repo_id}"
        ) from error
    return str(url)


def _commit(api: HfApi, root: Path, files: list[str], repo_id: str) -> str:
    """One commit after which the repository has these files and none of an earlier upload; its hash."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = set(api.list_repo_files(repo_id, repo_type="dataset"))
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=root / name) for name in files
    ]
    stale = sorted(name for name in there - set(files) if name.startswith(_OURS))
    operations += [CommitOperationDelete(path_in_repo=name) for name in stale]
    dataset = Dataset(root)
    if "README.md" not in there:
        text = card(dataset, repo_id).encode()
        operations.append(CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=text))
    commit = api.create_commit(
        repo_id,
        operations,
        commit_message=f"{len(dataset.episodes)} episodes",
        repo_type="dataset",
    )
    return str(commit.oid)
