import errno
import fcntl
from pathlib import Path

import pytest

from vkdnw_pl.errors import UsageError
from vkdnw_pl.runs.folder import FolderBusy, RunFolder


def test_a_folder_has_one_holder(tmp_path):
    busy = pytest.raises(FolderBusy, match="is being written by another process")
    with RunFolder(tmp_path).lock(), busy, RunFolder(tmp_path).lock(0.1):
        pass
    with RunFolder(tmp_path).lock(0.1):
        pass


@pytest.mark.parametrize(("code", "allowed"), [(errno.ENOSYS, True), (errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code, allowed):
    def flock(file, operation):
        raise OSError(code, "as the file system says")

    monkeypatch.setattr(fcntl, "flock", flock)
    if not allowed:
        with pytest.raises(OSError, match="as the file system says"), RunFolder(tmp_path).lock():
            pass
        return
    with RunFolder(tmp_path).lock():
        assert (tmp_path / ".lock").exists()


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "meta.json").write_text('{"form')
    with pytest.raises(ValueError, match=r"meta\.json is damaged"):
        RunFolder(tmp_path).read_meta()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_folder_that_cannot_be_made_is_wrong_usage():
    with pytest.raises(UsageError, match=r"^out='/proc/results/run' cannot be made: "):
        with RunFolder("/proc/results/run").lock():
            pass
