"""Sweeps that are killed, damaged, changed or out of space: real processes, identical results."""

import errno
import json
import signal
import subprocess
import time

import numpy as np
import pytest
import sweep_cases as cases
import xarray as xr

from qsjax.streaming import store
from qsjax.streaming.aggregate import new_tally

# 50 chunks within a second, so that a signal after the first ones finds others left to do.
CHUNK = ("--chunk", "10000")
SPEC = cases.SPEC


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


def killed(out, count, *flags, spec):
    """Kill a sweep as soon as it has so many chunks; which ones it has, and when they were made."""
    process = cases.launch(spec, out, *CHUNK, *flags)
    wait_for_chunks(process, out, count)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (out / "summary.json").exists()
    return {path: path.stat().st_mtime_ns for path in out.glob("chunks/*.chunk")}


@pytest.mark.slow
def test_a_sweep_killed_twice_resumes_to_identical_files(finished, tmp_path):
    spec, whole = finished
    out = tmp_path / "killed"
    first = killed(out, 1, spec=spec)
    second = killed(out, len(first) + 2, "--resume", spec=spec)
    assert 0 < len(first) < len(second) < len(list(whole.glob("chunks/*.chunk")))
    code, _, error = cases.run(spec, out, *CHUNK, "--resume")
    assert code == 0, error
    assert cases.files(out) == cases.files(whole)
    assert all(path.stat().st_mtime_ns == when for path, when in (first | second).items())


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
    first, second = (store.chunk_path(out, k) for k in (0, 2))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.write_bytes(second.read_bytes()[:100])
    untouched = store.chunk_path(out, 1).stat().st_mtime_ns
    code, _, error = cases.run(spec, out, *CHUNK, "--resume")
    assert code == 0, error
    assert "chunk 0" in error
    assert "chunk 2" in error
    assert "computed again" in error
    assert cases.files(out) == cases.files(whole)
    assert store.chunk_path(out, 1).stat().st_mtime_ns == untouched


@pytest.mark.slow
def test_a_changed_file_is_refused_with_the_difference(finished, tmp_path):
    spec, whole = finished
    other = tmp_path / "other.toml"
    other.write_text(SPEC.replace("twins = [3]", "twins = [4]"))
    code, _, error = cases.run(other, whole, *CHUNK, "--resume")
    assert code == 2
    assert "spec.twins: was [3.0], now [4.0]" in error
    code, _, error = cases.run(spec, whole, *CHUNK)
    assert code == 2
    assert "holds a sweep already" in error


def test_the_result_is_labelled(finished):
    _, whole = finished
    with xr.open_dataset(whole / "winners.nc", engine="h5netcdf") as data:
        assert data.sizes == {"model": 2, "hardware": 1, "hbm_bw": 25, "gpus": 1, "context": 40}
        assert list(data.model.values) == ["mixtral-8x7b", "mixtral-8x7b dense q=3"]
        moe = data.sel(model="mixtral-8x7b").isel(hardware=0, gpus=0, context=0)
        assert (np.diff(moe.tokens_per_s_per_gpu) >= 0).all()
        has_none = data.feasible.values == 0
        assert np.isnan(data.tp.values[has_none]).all()
        assert not np.isnan(data.tp.values[~has_none]).any()
        units = {name: data[name].attrs["units"] for name in ("tpot", "score", "hbm_bw", "context")}
        assert units == {"tpot": "s", "score": "tokens/s/GPU", "hbm_bw": "B/s", "context": "tokens"}
        named = (data[name] for name in data.variables if data[name].dtype.kind == "f")
        assert all(array.attrs["long_name"] for array in named)
        assert data.hbm_bw.attrs["long_name"] == "HBM bandwidth"
    heads = [
        (whole / f"{name}.csv").read_text().splitlines()[0].split(",")
        for name in ("winners", "top")
    ]
    assert all("tokens_per_s" in head for head in heads)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["designs_computed"] < summary["designs_in_grid"]
    assert 0 < summary["designs_feasible"] < summary["designs_computed"]
    assert list(summary["statistics"]["tpot"]) == "min max q05 q25 q50 q75 q95".split()


# A small disk of its own: a mount that only these processes see, full and then larger.
FULL_DISK = """\
set -e
mount -t tmpfs -o size=$SIZE none $DISK
mkdir $DISK/out
if [ $KIND = results ]; then cp -r $WHOLE/sweep.json $WHOLE/chunks $DISK/out; fi
code=0; "$@" --resume || code=$?
ls -A $DISK/out
ls -A $DISK/out/chunks | grep -v '^[0-9]*[.]chunk$' || true
mount -o remount,size=200m $DISK
"$@" --resume
cp -r $DISK/out $COPY
exit $code
"""


def small_disks():
    """Why there are none here, or nothing."""
    try:
        tried = subprocess.run(
            ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "no command `unshare`"
    return tried.stderr.strip()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["chunks", "results"])
def test_a_disk_that_is_really_full(finished, tmp_path, kind):
    if refused := small_disks():
        pytest.skip(f"a small disk cannot be mounted here: {refused}")
    spec, whole = finished
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    pages = sum(-(-path.stat().st_size // 4096) for path in whole.glob("chunks/*"))
    size = f"{2 * pages}k" if kind == "chunks" else f"{4 * pages + 900}k"
    names = {"SIZE": size, "DISK": disk, "COPY": copy, "WHOLE": whole, "KIND": kind}
    command = cases.command(spec, disk / "out", *CHUNK, "--devices", "2")
    ended = subprocess.run(
        ["unshare", "-rm", "bash", "-c", FULL_DISK, "bash", *command],
        env=cases.environment(**{name: str(value) for name, value in names.items()}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 1, ended
    assert ended.stderr.count("no space left") == 1, ended.stderr
    assert "Finished chunks are kept; make room and run again with --resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout.splitlines()[:3] == [".lock", "chunks", "sweep.json"]
    assert ended.stdout.count("designs computed") == 1
    assert cases.files(copy) == cases.files(whole)


@pytest.mark.slow
def test_what_cannot_be_written_is_a_mistake_of_the_input(finished, tmp_path):
    spec, _ = finished
    (tmp_path / "file").write_text("")
    code, output, error = cases.run(spec, tmp_path / "file" / "out", *CHUNK)
    assert (code, output) == (2, "")
    assert f"--out {tmp_path / 'file' / 'out'} cannot be written: Not a directory" in error


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    out = tmp_path / "out"
    (out / ".merge.of-a-killed-run").mkdir(parents=True)
    with store.claim(out):
        assert not list(out.glob(".merge*"))
        with pytest.raises(ValueError, match="another run is at work"), store.claim(out):
            pass
    with store.claim(out):
        pass


def test_a_mistake_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="wrong"), store.claim(tmp_path / "new"):
        raise ValueError("wrong")
    assert not (tmp_path / "new").exists()


def test_chunks_of_another_sweep_are_not_taken_over(tmp_path):
    store.write(tmp_path / store.MANIFEST, b'{"spec": 1}')
    store.save_chunk(tmp_path, 0, new_tally(0), {"score": np.ones(3)})
    assert store.finished(tmp_path, [0]) == ([0], [])
    store.write(tmp_path / store.MANIFEST, b'{"spec": 2}')
    done, damaged = store.finished(tmp_path, [0])
    assert done == []
    assert "damaged or of another sweep" in damaged[0]


def test_a_chunk_copied_over_another_is_noticed(tmp_path):
    for chunk in (0, 1):
        store.save_chunk(tmp_path, chunk, new_tally(0), {"score": np.full(3, chunk)})
    copied = store.chunk_path(tmp_path, 0).read_bytes()
    store.chunk_path(tmp_path, 1).write_bytes(copied)
    done, damaged = store.finished(tmp_path, [0, 1])
    assert done == [0]
    assert "chunk 1" in damaged[0]


@pytest.mark.parametrize("content", ["", "[]", "{", "\0" * 40, "[" * 200_000])
def test_a_damaged_description_is_said(tmp_path, content):
    (tmp_path / store.MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        store.manifest(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "chunks" / "0.chunk"
    store.write(path, b"old")
    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="--resume") as caught:
        store.write(path, b"new content")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_chunks_survive_the_disk_and_every_flipped_bit_is_noticed(tmp_path):
    tally = new_tally(1)
    tally.feasible = 7
    cells = {"position": np.arange(5), "score": np.linspace(0, 1, 5)}
    store.save_chunk(tmp_path, 3, tally, cells)
    again, found = store.load_chunk(tmp_path, 3)
    assert again.feasible == 7
    np.testing.assert_array_equal(found["score"], cells["score"])
    path = store.chunk_path(tmp_path, 3)
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 50)):
        broken = bytearray(content)
        broken[at] ^= 0x10
        path.write_bytes(broken)
        with pytest.raises(store.DamagedChunkError, match="chunk 3"):
            store.load_chunk(tmp_path, 3)
    done, damaged = store.finished(tmp_path, [2, 3])
    assert done == []
    assert "chunk 3" in damaged[0]
    assert not path.exists()
