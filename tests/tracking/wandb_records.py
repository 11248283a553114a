"""Reading back what W&B wrote offline, with its own tool."""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from wandb.util import get_core_path


def latest(folder: Path, command: str | None = None) -> Path:
    """Folder of the latest W&B run of a run folder: of the command that made it, or of another that looked at it."""
    run_id = (folder / ("wandb_id" if command is None else f"wandb_id.{command}")).read_text().strip()
    return max((folder / "wandb").glob(f"offline-run-*-{run_id}"))


def inspect(run: Path, *options: str) -> str:
    """`wandb leet inspect --json` of a run, without the second that wandb's command line takes to start."""
    (file,) = run.glob("*.wandb")
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *options]
    command += ["--run-file", str(file), str(run.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def overview(folder: Path, command: str | None = None) -> dict:
    """Config, summary, exit code, tags, ... of the latest run."""
    return json.loads(inspect(latest(folder, command), "--summary"))


class Records:
    """The records of the latest run."""

    def __init__(self, folder: Path, command: str | None = None) -> None:
        run = latest(folder, command)
        self.all = [json.loads(line) for line in inspect(run).splitlines()]
        self.files = run / "files"

    def of(self, kind: str) -> list[dict]:
        """Contents of the records of one type."""
        return [record[kind] for record in self.all if record["type"] == kind]

    @property
    def run(self) -> dict:
        """Project, group, job type, ..."""
        return self.of("run")[0]

    @property
    def history(self) -> list[dict]:
        """Points of the curves."""
        return [point["item"] for point in self.of("history")]

    def artifact(self, kind: str) -> set[str]:
        """Names of the files of an artifact of a type."""
        (artifact,) = [artifact for artifact in self.of("artifact") if artifact["type"] == kind]
        return {file["path"] for file in artifact["manifest"]["contents"]}

    def table(self, name: str, summary: dict) -> dict:
        """Columns and data of a table; text that is no JSON, such as NaN, is an error."""
        return json.loads((self.files / summary[name]["path"]).read_text(), parse_constant=pytest.fail)


@contextmanager
def no_account(home: str = "/dev/null/nowhere", **environment: str):
    """An environment without W&B's variables, without a key, and with a home folder that nothing can be written to."""
    before = dict(os.environ)
    try:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
        os.environ.update({"HOME": home, "NETRC": "/dev/null/netrc", **environment})
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
