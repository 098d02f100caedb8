"""A sweep by several real processes on one machine, and one of them dying."""

import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import sweep_cases as cases

from qsjax.streaming import campaign, hosts, store
from qsjax.streaming.hosts import Heartbeat, HostLostError, Processes

CHUNK = ("--chunk", "20000")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def group(spec, out, count, *flags, by_environment=()):
    """Processes of one sweep; each is told by flags who it is, or those named by variables."""
    address = f"127.0.0.1:{free_port()}"
    members = []
    for rank in range(count):
        where = ("--coordinator", address, "--processes", str(count), "--process-id", str(rank))
        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        named = rank in by_environment
        options = dict(zip(names, where[1::2], strict=True)) if named else {}
        given = () if named else where
        members.append(cases.launch(spec, out, *CHUNK, *flags, *given, **options))
    return members


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    home = tmp_path_factory.mktemp("hosts")
    spec = home / "study.toml"
    spec.write_text(cases.SPEC)
    code, _, error = cases.run(spec, home / "alone", *CHUNK)
    assert code == 0, error
    return spec, cases.files(home / "alone")


@pytest.mark.slow
def test_several_processes_find_what_one_finds(alone, tmp_path):
    spec, expected = alone
    members = group(spec, tmp_path / "out", 3, by_environment=(0, 2))
    ends = [member.communicate(timeout=240) for member in members]
    assert [member.returncode for member in members] == [0] * 3, ends
    assert cases.files(tmp_path / "out") == expected
    assert ["designs computed" in output for output, _ in ends] == [True, False, False]


@pytest.mark.slow
def test_what_process_0_refuses_stops_all_at_once(alone, tmp_path):
    spec, _ = alone
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.json").write_text("{}")
    began = time.monotonic()
    members = group(spec, tmp_path / "out", 2)
    ends = [member.communicate(timeout=240) for member in members]
    assert [member.returncode for member in members] == [2, 2], ends
    assert "holds a sweep already" in ends[0][1]
    assert "process 0 has refused the sweep" in ends[1][1]
    assert time.monotonic() - began < 60


def test_processes_that_never_meet_are_an_error_not_an_abort():
    script = (
        "from qsjax.streaming import hosts\n"
        "import os\n"
        f"where = '127.0.0.1:{free_port()}'\n"
        "try:\n"
        "    hosts.start(where, 2, 1, timeout=1)\n"
        "except hosts.HostLostError as error:\n"
        "    print(error, flush=True)\n"
        "    os._exit(0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=cases.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended
    assert "not all processes met at 127.0.0.1:" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_stops_the_others_and_the_rest_resumes(alone, tmp_path, victim):
    spec, expected = alone
    out = tmp_path / "out"
    members = group(spec, out, 2)
    until = time.monotonic() + 200
    while not (out / "alive" / f"{victim}.txt").exists():
        assert time.monotonic() < until
        assert all(member.poll() is None for member in members)
        time.sleep(0.005)
    members[victim].kill()
    other = members[1 - victim]
    _, error = other.communicate(timeout=120)
    members[victim].communicate()
    assert other.returncode != 0
    assert "process" in error
    assert "distributed" in error or "--resume" in error, error
    code, _, error = cases.run(spec, out, *CHUNK, "--resume")
    assert code == 0, error
    assert cases.files(out) == expected


def test_silence_failure_and_old_signs(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "BEAT", 0.05)
    monkeypatch.setattr(hosts, "PATIENCE", 0.5)
    monkeypatch.setattr(hosts, "START_PATIENCE", 0.5)
    (tmp_path / "alive").mkdir()
    (tmp_path / "alive" / "1.txt").write_text("99 failed 0")
    with Heartbeat(tmp_path, Processes(2, 0, run=5)) as life:
        life.check()  # a failure of another run is none of this one
        with Heartbeat(tmp_path, Processes(2, 1, run=5)) as other:
            for _ in range(20):
                life.check()
                time.sleep(0.05)
            other.say("done")
        time.sleep(0.7)
        life.check()  # done is not lost
        assert life.state_of(1) == "done"
        (tmp_path / "alive" / "1.txt").write_text("5 running 0")
        with pytest.raises(HostLostError, match=r"process 1 of 2 is silent.*--resume"):
            life.wait(lambda: False, pause=0.05)
        (tmp_path / "alive" / "1.txt").write_text("5 failed 0")
        with pytest.raises(HostLostError, match="has failed"):
            life.check()


def test_results_wait_for_those_who_check_their_chunks(tmp_path, monkeypatch):
    """Chunks of an earlier run are there at once, but may be damaged."""
    sign = tmp_path / "alive" / "1.txt"
    sign.parent.mkdir()
    sign.write_text("5 running 0")
    for chunk in range(2):
        store.write(store.chunk_path(tmp_path, chunk), b"")
    monkeypatch.setattr(store, "finished", lambda *_: ([0], []))
    monkeypatch.setattr(campaign, "cells_of", lambda *_: 0)
    monkeypatch.setattr(campaign, "compute_chunks", lambda *_: None)
    monkeypatch.setattr(campaign.results, "write", lambda *_: {"when": sign.read_text()})
    mine = campaign.SweepRun(None, SimpleNamespace(chunks=2), None, tmp_path)
    later = threading.Timer(0.5, sign.write_text, ["5 done 0"])
    later.start()
    found = campaign.execute(mine, Processes(2, 0, run=5))
    later.join()
    assert found == {"when": "5 done 0"}


def test_the_environment_names_the_process(monkeypatch):
    kubernetes = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4"}
    given = hosts._given({**kubernetes, "JOB_COMPLETION_INDEX": "3"}, None, None, None)
    assert given == ("a:1", 4, 3)
    assert hosts._given(kubernetes, "b:2", 8, 0) == ("b:2", 8, 0)
    wrong = {"JAX_COORDINATOR_ADDRESS": "node0", "JAX_NUM_PROCESSES": "two"}
    with pytest.raises(ValueError, match="coordinator 'node0'") as caught:
        hosts._given(wrong, None, None, None)
    assert "JAX_NUM_PROCESSES='two' is not allowed; give a whole number" in str(caught.value)
    with pytest.raises(ValueError, match=r"process id 4 of 4 processes .* give 0 to 3"):
        hosts._given({}, "[::1]:4000", 4, 4)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    with pytest.raises(ValueError, match="missing: --coordinator, --process-id"):
        hosts.start()
    assert hosts.start(processes=1) == Processes()
    # In a cluster JAX finds the others by itself.
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    joined = []
    monkeypatch.setattr(hosts, "_join", joined.append)
    for tasks in ("1", "2"):
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
        hosts.start(timeout=float(tasks))
    assert joined == [2.0]
