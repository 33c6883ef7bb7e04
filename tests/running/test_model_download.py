"""A download in a real process, from a hub on loopback that dies, comes back, refuses and delays."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import psutil
import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter

from autofit.domain.errors import AutofitError, UsageError
from autofit.domain.event import DownloadEnded, DownloadEvent, DownloadProgress, DownloadStarted, Note
from autofit.inputs.download import AllFetched, Download, Fetched, FetchMessage, HubFile, SmallFetched, check_room
from autofit.inputs.fetch import fetch
from autofit.inputs.partial_file import unfinished_bytes
from autofit.inputs.snapshot import find_snapshot, local_options
from autofit.inputs.tally import Tally
from autofit.running.model_download import ModelDownload
from tests.stand_in_hub import COMMIT, StandInHub, stand_in_hub, use_cache
from tests.waiting import is_alive, wait_until

MODEL = "meta-llama/Llama-2-13b-hf"
SHARD_BYTES = 24_000_000  # the client writes pieces of 10 MiB, and loses what is less
SHARDS = {f"model-0000{number}-of-00002.safetensors": bytes([number]) * SHARD_BYTES for number in (1, 2)}
FIRST, SECOND = SHARDS
SMALL = {"config.json": b"{}", "tokenizer.json": b"{}"}
INDEX = {"model.safetensors.index.json": b'{"weight_map": {"a": "%s", "b": "%s"}}' % (FIRST.encode(), SECOND.encode())}
PIECE_BYTES = 10 * 2**20


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    with stand_in_hub() as hub:
        use_cache(monkeypatch, tmp_path / "cache", hub.url)
        for name, value in hub.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        hub.add(MODEL, {**SMALL, **INDEX, **SHARDS})
        huggingface_hub.hf_hub_download(MODEL, "config.json")  # has been read by now
        yield hub


def files(names: dict[str, bytes]) -> tuple[HubFile, ...]:
    return tuple(HubFile(name, len(body)) for name, body in names.items())


DOWNLOAD = Download(MODEL, COMMIT, files({**SMALL, **INDEX}), files(SHARDS))


class Heard(list[DownloadEvent]):
    """What the screen was told."""

    def sized(self) -> list[int]:
        return [event.done_bytes for event in self if isinstance(event, DownloadProgress)]


def start(tmp_path: Path, heard: Heard, download: Download = DOWNLOAD) -> ModelDownload:
    return ModelDownload(download, log_path=tmp_path / "download.log", show=heard.append)


def test_everything_arrives_and_is_told_of(hub: StandInHub, tmp_path: Path) -> None:
    heard = Heard()
    with start(tmp_path, heard) as started:
        started.wait_for_small_files()
        assert set(local_options(MODEL)) == {"revision", "local_files_only"}
        started.wait()
    assert heard[0] == DownloadStarted(MODEL, COMMIT, DOWNLOAD.size_bytes)
    assert isinstance(heard[-1], DownloadEnded)
    assert heard.sized()[-1] == DOWNLOAD.size_bytes
    assert heard.sized() == sorted(heard.sized())
    snapshot = find_snapshot(MODEL)
    assert snapshot is not None
    assert snapshot.is_whole
    assert all((snapshot.folder / name).read_bytes() == body for name, body in SHARDS.items())
    assert local_options(MODEL, needs_weights=True) == {"revision": COMMIT, "local_files_only": True}
    assert {len(hub.asked_for(name)) for name in SHARDS} == {1}


def test_a_mirror_that_knows_no_sizes_is_waited_for(hub: StandInHub, tmp_path: Path) -> None:
    heard = Heard()
    unsized = Download(MODEL, COMMIT, (), (HubFile(FIRST, 0),))
    with start(tmp_path, heard, unsized) as started:
        started.wait()
    assert heard[0] == DownloadStarted(MODEL, COMMIT, 0)
    assert heard[-2] == DownloadProgress(SHARD_BYTES, SHARD_BYTES)


@pytest.mark.slow
def test_a_hub_that_dies_half_way_is_gone_on_from_with_the_same_command(hub: StandInHub, tmp_path: Path) -> None:
    hub.dies_after_bytes[SECOND] = SHARD_BYTES // 2
    with start(tmp_path, Heard()) as started, pytest.raises(UsageError) as caught:
        started.wait()
    said = str(caught.value)
    assert said.startswith(
        f"The download of {MODEL} stopped at 34.5 MB of 48.0 MB, since the hub cannot be reached (peer"
    )
    assert said.endswith(": the same command goes on from there.")
    assert unfinished_bytes(MODEL) == PIECE_BYTES
    hub.dies_after_bytes.clear()
    hub.asked.clear()
    heard = Heard()
    rest = Download(MODEL, COMMIT, (), files({SECOND: SHARDS[SECOND]}))
    with start(tmp_path, heard, rest) as started:
        started.wait()
    assert [asked.range for asked in hub.asked_for(SECOND)] == [f"bytes={PIECE_BYTES}-"]
    assert heard.sized()[0] >= PIECE_BYTES
    assert heard.sized()[-1] == SHARD_BYTES
    snapshot = find_snapshot(MODEL)
    assert snapshot is not None
    assert (snapshot.folder / SECOND).read_bytes() == SHARDS[SECOND]
    assert unfinished_bytes(MODEL) == 0


@pytest.mark.slow  # the client's own pauses, as in the one above
@pytest.mark.slow
def test_a_hub_that_dies_during_the_search_is_asked_again_after_it(hub: StandInHub, tmp_path: Path) -> None:
    hub.dies_after_bytes[SECOND] = SHARD_BYTES // 2
    heard = Heard()
    with start(tmp_path, heard) as started:
        started.wait_for_small_files()
        wait_until(lambda: any(isinstance(event, Note) for event in heard))
        hub.dies_after_bytes.clear()
        started.wait()
    notes = [event.text for event in heard if isinstance(event, Note)]
    assert notes == [f"the download of {MODEL} stopped; it goes on after the search"]
    assert isinstance(heard[-1], DownloadEnded)
    assert local_options(MODEL, needs_weights=True)


def test_a_hub_that_refuses_before_anything_is_here(hub: StandInHub, tmp_path: Path) -> None:
    hub.repositories[MODEL].is_gated = True
    with start(tmp_path, Heard()) as started, pytest.raises(UsageError, match=f"{MODEL} is gated: ask for access"):
        started.wait_for_small_files()


def test_access_that_is_lost_meanwhile_may_be_had_again_until_the_search_ends(hub: StandInHub, tmp_path: Path) -> None:
    hub.released = {name: threading.Event() for name in SHARDS}
    heard = Heard()
    with start(tmp_path, heard) as started:
        wait_until(lambda: unfinished_bytes(MODEL) == 2 * PIECE_BYTES)
        hub.repositories[MODEL].is_gated = True
        hub.dies_after_bytes = dict.fromkeys(SHARDS, SHARD_BYTES // 2)
        for event in hub.released.values():
            event.set()
        wait_until(lambda: any(isinstance(event, Note) for event in heard))
        hub.repositories[MODEL].is_gated = False
        hub.dies_after_bytes.clear()
        started.wait()
    (note,) = [event.text for event in heard if isinstance(event, Note)]
    assert note.startswith(f"{MODEL} is gated: ask for access")
    assert note.endswith("It is asked for once more after the search.")
    assert local_options(MODEL, needs_weights=True)


def test_what_ends_the_command_ends_the_download_and_leaves_what_is_here(hub: StandInHub, tmp_path: Path) -> None:
    hub.released = {name: threading.Event() for name in SHARDS}
    with start(tmp_path, Heard()) as started:
        wait_until(lambda: unfinished_bytes(MODEL) == 2 * PIECE_BYTES)
        assert psutil.Process(started._child.pid).nice() == 19  # probes that are measured go first
    assert not is_alive(started._child.pid)
    assert unfinished_bytes(MODEL) == 2 * PIECE_BYTES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_ends_leaves_no_download_behind(hub: StandInHub, tmp_path: Path, number: signal.Signals) -> None:
    hub.released = {name: threading.Event() for name in SHARDS}
    program = (
        "from pathlib import Path; from autofit.process.signals import note_signals\n"
        "from tests.running.test_model_download import *\n"
        f"note_signals()\nwith start(Path({str(tmp_path)!r}), Heard()) as started:\n"
        "    print(started._child.pid, flush=True); started.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=-1, stderr=-1, text=True) as command:
        assert command.stdout is not None
        pid = int(command.stdout.readline())
        wait_until(lambda: unfinished_bytes(MODEL) == 2 * PIECE_BYTES)
        command.send_signal(number)
    wait_until(lambda: not is_alive(pid))
    assert unfinished_bytes(MODEL) == 2 * PIECE_BYTES


def test_a_process_that_dies_says_where_its_log_is(hub: StandInHub, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    download = ModelDownload(DOWNLOAD, log_path=tmp_path / "download.log", show=Heard().append, program=program)
    with (
        download as started,
        pytest.raises(AutofitError, match=r"ended early \(exit code -9\): .*download.log says more"),
    ):
        started.wait_for_small_files()


def test_a_list_that_cannot_be_had_now_keeps_nobody_waiting(hub: StandInHub, tmp_path: Path) -> None:
    hub.status = 500  # which the client asks again for most of a minute
    heard, clock = Heard(), itertools.count(0.0, 5.0)
    nothing = Download(MODEL, COMMIT)
    with ModelDownload(nothing, log_path=tmp_path / "log", show=heard.append, clock=lambda: next(clock)) as started:
        started.wait_for_small_files()
        started.wait()
    assert heard == []


class TestFiles:
    """The same in this process, in small pieces and without the client's pauses."""

    @pytest.fixture(autouse=True)
    def small_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr(file_download.time, "sleep", lambda s: None)

    @pytest.fixture
    def tiny(self, hub: StandInHub) -> Download:
        hub.add(MODEL, {**SMALL, "model.safetensors": b"tiny" * 2500})
        return Download(MODEL, COMMIT, files(SMALL), (HubFile("model.safetensors", 10_000),))

    def test_in_their_order(self, hub: StandInHub, tiny: Download) -> None:
        said: list[FetchMessage] = []
        fetch(tiny, said.append)
        assert [type(message) for message in said if not isinstance(message, Fetched)] == [SmallFetched, AllFetched]
        assert said[-2] == Fetched(10_004, 10_004)

    def test_what_was_put_together_of_other_parts_is_fetched_anew(self, hub: StandInHub, tiny: Download) -> None:
        hub.dies_after_bytes["model.safetensors"] = 5000
        with pytest.raises(Exception, match="peer closed connection"):
            fetch(tiny, lambda message: None)
        (unfinished,) = Path(constants.HF_HUB_CACHE).glob("*/blobs/*.incomplete")
        assert unfinished.stat().st_size == 5000
        unfinished.write_bytes(b"other" * 1000)
        hub.dies_after_bytes.clear()
        said: list[FetchMessage] = []
        fetch(tiny, said.append)
        snapshot = find_snapshot(MODEL)
        assert snapshot is not None
        assert (snapshot.folder / "model.safetensors").read_bytes() == b"tiny" * 2500
        assert said[-2] == Fetched(10_004, 10_004)

    def test_what_is_longer_than_the_file_is_fetched_anew(self, hub: StandInHub, tiny: Download) -> None:
        hub.dies_after_bytes["model.safetensors"] = 5000
        with pytest.raises(Exception, match="peer closed connection"):
            fetch(tiny, lambda message: None)
        (unfinished,) = Path(constants.HF_HUB_CACHE).glob("*/blobs/*.incomplete")
        unfinished.write_bytes(b"longer" * 5000)
        hub.dies_after_bytes.clear()
        said: list[FetchMessage] = []
        fetch(tiny, said.append)
        assert local_options(MODEL, needs_weights=True)
        assert said[-2] == Fetched(10_004, 10_004)

    def test_a_hub_that_is_busy_for_a_moment_is_asked_again(self, hub: StandInHub, tiny: Download) -> None:
        hub.busy_count = 2
        fetch(tiny, lambda message: None)
        assert local_options(MODEL, needs_weights=True)

    def test_the_client_s_other_protocol_counts_what_is_on_the_disk(self) -> None:
        said: list[FetchMessage] = []
        tally = Tally(said.append, 1000, 1500)
        told = {"reconstruction_desc": "", "total": 500, "log_level": 0, "tqdm_class": tally.meter(0)}
        with XetDownloadProgressReporter(**told) as reporter:  # type: ignore[arg-type]
            for n_bytes in (200, 500):
                done = {"total_bytes_completed": n_bytes, "total_transfer_bytes_completed": n_bytes, "total_bytes": 500}
                rates = {"total_bytes_completion_rate": 1.0, "total_transfer_bytes_completion_rate": 1.0}
                reporter.update_progress(SimpleNamespace(**done, **rates))
        tally.tell()
        assert said[-1] == Fetched(1500, 1500)

    def test_a_token_is_for_the_hub_alone(
        self, hub: StandInHub, tiny: Download, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "granted")
        hub.repositories[MODEL].is_gated = True
        fetch(tiny, lambda message: None)
        assert local_options(MODEL, needs_weights=True)

    def test_a_file_that_only_another_way_brings(
        self, hub: StandInHub, tiny: Download, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ways: list[str] = []
        real = huggingface_hub.hf_hub_download
        monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 9_999)

        def download(model: str, name: str, **options: object) -> str:
            ways.append(name)
            monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 10_000)  # as with its other protocol
            return real(model, name, **options)  # type: ignore[arg-type, no-any-return]

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        fetch(tiny, lambda message: None)
        assert ways == ["model.safetensors"]
        assert local_options(MODEL, needs_weights=True)


def test_a_disk_without_the_room_is_refused_with_both_figures(tmp_path: Path) -> None:
    big = Download(MODEL, COMMIT, (), (HubFile("model.safetensors", 26_000_000_000),))
    with pytest.raises(UsageError) as caught:
        check_room(big, 0, 10_200_000_000, Path("/cache"))
    assert str(caught.value) == (
        f"26.0 GB of {MODEL} must be downloaded to /cache, where 10.2 GB are free: free some there, or set HF_HOME to "
        "a folder on a larger disk."
    )
    check_room(big, 16_000_000_000, 10_200_000_000, Path("/cache"))  # so much of it is there
