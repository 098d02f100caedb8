"""Sweeps that are killed, damaged, changed or out of space: real processes, identical results."""

import errno
import json
import signal
import time

import numpy as np
import pytest
import sweep_cases as cases
import xarray as xr

from qsjax.sweep import storage
from qsjax.sweep.tally import new_tally

# Some 200 chunks within seconds, so that a signal after the first ones finds others left to do.
CHUNK = ("--chunk", "4000")
SPEC = cases.SPEC.replace("steps = 25", "steps = 100")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A spec, and the folder of its uninterrupted sweep."""
    home = tmp_path_factory.mktemp("sweep")
    spec = home / "study.toml"
    spec.write_text(SPEC)
    code, output, error = cases.run(spec, home / "whole", *CHUNK)
    assert code == 0, error
    assert "designs computed" in output
    return spec, home / "whole"


def wait_for_chunks(process, out, count):
    until = time.monotonic() + 200
    while len(list(out.glob("chunks/*.chunk"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_sweep_resumes_to_identical_files(finished, tmp_path, count):
    spec, whole = finished
    out = tmp_path / "killed"
    process = cases.launch(spec, out, *CHUNK)
    wait_for_chunks(process, out, count)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    chunks = len(list(out.glob("chunks/*.chunk")))
    assert 0 < chunks < len(list(whole.glob("chunks/*.chunk")))
    assert not (out / "summary.json").exists()
    before = {path: path.stat().st_mtime_ns for path in out.glob("chunks/*.chunk")}
    code, _, error = cases.run(spec, out, *CHUNK, "--resume")
    assert code == 0, error
    assert cases.files(out) == cases.files(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


@pytest.mark.slow
def test_an_interrupted_sweep_says_so_and_keeps_its_chunks(finished, tmp_path):
    spec, _ = finished
    # A shell's background jobs inherit that Ctrl-C is ignored; a handler of one's own undoes that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = cases.launch(spec, tmp_path / "out", *CHUNK)
    signal.signal(signal.SIGINT, inherited)
    wait_for_chunks(process, tmp_path / "out", 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (1, 130)
    assert "Aborted" in error
    assert list((tmp_path / "out").glob("chunks/*.chunk"))


@pytest.mark.slow
def test_a_damaged_chunk_is_named_and_computed_again(finished, tmp_path):
    spec, whole = finished
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    first, second = (storage.chunk_path(out, k) for k in (0, 2))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:100])
    untouched = storage.chunk_path(out, 1).stat().st_mtime_ns
    code, _, error = cases.run(spec, out, *CHUNK, "--resume")
    assert code == 0, error
    assert "chunk 0" in error
    assert "chunk 2" in error
    assert "computed again" in error
    assert cases.files(out) == cases.files(whole)
    assert storage.chunk_path(out, 1).stat().st_mtime_ns == untouched


@pytest.mark.slow
def test_a_changed_file_is_refused_with_the_difference(finished, tmp_path):
    spec, whole = finished
    other = tmp_path / "other.toml"
    other.write_text(SPEC.replace("twins = [3]", "twins = [4]"))
    code, _, error = cases.run(other, whole, *CHUNK, "--resume")
    assert code == 2
    assert "spec.sweep.twins: was [3], now [4]" in error
    code, _, error = cases.run(spec, whole, *CHUNK)
    assert code == 2
    assert "holds a sweep already" in error


def test_the_result_is_labelled(finished):
    _, whole = finished
    with xr.open_dataset(whole / "winners.nc", engine="h5netcdf") as data:
        assert data.sizes == {"model": 2, "hardware": 1, "hbm_bw": 100, "gpus": 1, "context": 40}
        assert list(data.model.values) == ["mixtral-8x7b", "mixtral-8x7b dense q=3"]
        moe = data.sel(model="mixtral-8x7b").isel(hardware=0, gpus=0, context=0)
        assert (np.diff(moe.tokens_per_s_per_gpu) >= 0).all()
        has_none = data.feasible.values == 0
        assert np.isnan(data.tp.values[has_none]).all()
        assert not np.isnan(data.tp.values[~has_none]).any()
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["designs_computed"] < summary["designs_in_grid"]
    assert 0 < summary["designs_feasible"] < summary["designs_computed"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "chunks" / "0.chunk"
    storage.write(path, b"old")
    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="--resume") as caught:
        storage.write(path, b"new content")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_chunks_survive_the_disk_and_every_flipped_bit_is_noticed(tmp_path):
    tally = new_tally(1)
    tally.feasible = 7
    cells = {"position": np.arange(5), "score": np.linspace(0, 1, 5)}
    storage.save_chunk(tmp_path, 3, tally, cells)
    again, found = storage.load_chunk(tmp_path, 3)
    assert again.feasible == 7
    np.testing.assert_array_equal(found["score"], cells["score"])
    path = storage.chunk_path(tmp_path, 3)
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 50)):
        broken = bytearray(content)
        broken[at] ^= 0x10
        path.write_bytes(broken)
        with pytest.raises(storage.DamagedChunkError, match="chunk 3"):
            storage.load_chunk(tmp_path, 3)
    done, damaged = storage.finished(tmp_path, [2, 3])
    assert done == []
    assert "chunk 3" in damaged[0]
    assert not path.exists()
