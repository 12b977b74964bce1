"""Whatever a file holds, the answer is a result or one of our own errors in one line; `make fuzz` tries fifty times as many."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from deja_vu.core.documents import MAX_YAML, read_json, read_yaml
from deja_vu.core.errors import LONGEST, FormatError, InputError, MissingAssetError
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import READERS
from tests.fuzz.worker import Reader, Tally, judge, run

FILES = 2000
ROOT = Path(__file__).parents[2]


def test_damaged_files_are_read_or_refused() -> None:
    """In a fresh interpreter, whose one thread can be forked: where browsers were opened before, a fork may wait for ever."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--files", str(FILES)], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(READERS) + 1


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name, tmp_path) -> None:
    for path in READERS[name].seeds(tmp_path):
        assert judge(READERS[name].read, path) == ("fine", "")


def test_the_same_number_makes_the_same_file() -> None:
    whole = b'{"a": 1, "b": [2, 3]}'
    assert mutate(whole, random.Random("7")) == mutate(whole, random.Random("7"))
    assert len({mutate(whole, random.Random(str(number))) for number in range(200)}) > 100


def test_faults_are_seen(tmp_path) -> None:
    call = f"from pathlib import Path; from tests.fuzz.test_readers import see_faults; see_faults(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr


def see_faults(folder: Path) -> None:
    """Of readers that do what none may: raise, talk at length, loop, take all memory, and die."""

    def die(_: Path) -> None:
        __import__("os")._exit(3)

    def loop(_: Path) -> None:
        while True:
            pass

    def talk(_: Path) -> None:
        raise MissingAssetError("x" * 600)

    def take(_: Path) -> None:
        bytearray(8 << 30)

    def seeds(place: Path) -> list[Path]:
        (place / "a").write_bytes(b"abc")
        return [place / "a"]

    expected = {"crash": die, "hang": loop, "long": talk, "memory": take, "traceback": lambda path: 1 / 0}
    for kind, read in expected.items():
        tally = Tally()
        run(kind, Reader(seeds, read), range(2 if kind != "hang" else 1), folder / kind, tally, seconds=0.5)
        assert set(tally.counts) == {kind}, kind
        assert len(tally.faults) == sum(tally.counts.values())


def test_small_documents_that_ask_for_much_are_refused(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(10)))
    with pytest.raises(FormatError, match="alias"):
        read_yaml(path)
    path.write_text("track:\n  resolution: 512\ntrack: {resolution: 256}\n")
    with pytest.raises(FormatError, match="'track' occurs twice, again in line 3"):
        read_yaml(path)
    path.write_text("steps: 0100\n")
    with pytest.raises(FormatError, match="'0100' begins with a zero in line 1"):
        read_yaml(path)
    path.write_text("{a: 0, b: 100, c: -7, d: 0x10, e: '0100', f: 0.5}\n")
    assert read_yaml(path) == {"a": 0, "b": 100, "c": -7, "d": 16, "e": "0100", "f": 0.5}
    path.write_bytes(b"a: " + b"[" * 100_000)
    with pytest.raises(FormatError, match="not valid YAML"):
        read_yaml(path)
    path.write_bytes(b"#" * (MAX_YAML + 1))
    with pytest.raises(FormatError, match="larger than 256 kB"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(FormatError, match="UTF-8"):
        read_yaml(path)
    path.write_bytes(b"[" * 200_000)
    with pytest.raises(FormatError, match="damaged or not JSON"):
        read_json(path)


def test_what_a_file_brings_into_a_message_is_cut_out_of_its_middle() -> None:
    text = str(InputError(f"me.yaml: unknown option '{'y' * 10_000}'. Did you mean 'fps'?"))
    assert len(text) <= LONGEST
    assert text.startswith("me.yaml: unknown option")
    assert text.endswith("Did you mean 'fps'?")
