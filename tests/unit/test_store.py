"""Results on disk survive whatever happens to the run that writes them."""

import math
import os
import signal
import subprocess
import sys
import time

import pytest

from counterpoint.errors import InputError, OutputError
from counterpoint.store import Store, key_of

COLUMNS = {"image": "VARCHAR", "step": "INTEGER", "scores": "DOUBLE[]"}
QUESTION = {"model": "abc", "steps": 20, "baselines": ["black", "blur:sigma=10"]}


def row(n, **changes):
    return {"key": f"{n:03}", "image": f"photo {n}'s", "step": n, "scores": [0.5, math.nan], **changes}


def test_rows_come_back_as_they_went_in(tmp_path):
    store = Store(tmp_path / "new" / "folder", QUESTION, COLUMNS)
    store.add([row(1), row(0, scores=None, step=None)])
    store.add([])
    store.add([row(2)])
    again = Store(tmp_path / "new" / "folder", QUESTION, COLUMNS).rows()
    assert [r["key"] for r in again] == ["000", "001", "002"]
    assert again[0]["scores"] is None
    assert again[1]["image"] == "photo 1's"
    assert again[1]["scores"][0] == 0.5
    assert math.isnan(again[1]["scores"][1])


def test_what_two_runs_both_computed_counts_once(tmp_path):
    one, two = (Store(tmp_path, QUESTION, COLUMNS) for _ in range(2))
    one.add([row(1), row(2)])
    two.add([row(2), row(3)])
    assert one.keys() == two.keys() == {"001", "002", "003"}
    assert len(one.rows()) == 3


def test_an_empty_store_has_no_rows(tmp_path):
    store = Store(tmp_path, QUESTION, COLUMNS)
    assert store.keys() == set()
    assert store.rows() == []


def test_another_question_is_refused_and_told_apart(tmp_path):
    Store(tmp_path, QUESTION, COLUMNS)
    with pytest.raises(InputError, match="steps was 20, is 10"):
        Store(tmp_path, {**QUESTION, "steps": 10}, COLUMNS)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="no manifest"):
        Store(tmp_path, QUESTION, COLUMNS)


def test_a_damaged_part_is_named(tmp_path):
    store = Store(tmp_path, QUESTION, COLUMNS)
    (store.parts / "part-0.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(InputError, match="cannot be read"):
        store.rows()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        Store(tmp_path / "file", QUESTION, COLUMNS)


def test_a_killed_run_leaves_whole_parts_only(tmp_path):
    code = (
        "import sys; from counterpoint.store import Store\n"
        f"store = Store(sys.argv[1], {QUESTION!r}, {COLUMNS!r})\n"
        "for n in range(100000):\n"
        "    store.add([{'key': f'{n:06}', 'image': 'x', 'step': n, 'scores': [0.0] * 1000}] * 3)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("parts/part-*.parquet"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    keys = sorted(Store(tmp_path, QUESTION, COLUMNS).keys())
    assert len(keys) >= 5
    assert keys == [f"{n:06}" for n in range(len(keys))]


def test_a_key_changes_with_any_part_and_not_with_their_order():
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert len({key_of(p) for p in ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": 1, "b": 1})}) == 5
