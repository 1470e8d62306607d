"""The studio's queue: equal questions are one job, parts come first, cancelling and dying leave nothing behind."""

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("pydantic", reason="the studio's packages are not installed")

from counterpoint.studio.answers import Answers
from counterpoint.studio.catalogue import Catalogue
from counterpoint.studio.jobs import Jobs, Progress
from counterpoint.studio.questions import Cell, Curves, Deviation, Preview, Sanity, Verdict
from counterpoint.studio.refusals import Full, Refused
from counterpoint.studio.studio import write_answer
from counterpoint.studio.worker.beginning import Beginning
from counterpoint.studio.worker.messages import Advanced, Done, Ready
from counterpoint.studio.worker.process import WorkerProcess


class Recorded:
    """Somebody who takes tasks and does nothing with them."""

    def __init__(self) -> None:
        self.begun, self.cancelled = [], []

    def begin(self, task) -> None:
        self.begun.append(task)

    def cancel(self, serial) -> None:
        self.cancelled.append(serial)


@pytest.fixture
def answers(tmp_path):
    answers = Answers(10_000, tmp_path / "example")
    yield answers
    answers.close()


def jobs_with(answers, *, most=20, ready=True) -> Jobs:
    jobs = Jobs(
        answers=answers,
        most=most,
        doing=Recorded(),
        settle=lambda question: (f"{hash(question):x}", {}),
        conclude=lambda question, parts, missing: {"parts": parts, "missing": dict(missing)},
        write=write_answer,
    )
    if ready:
        jobs.ready()
    return jobs


def cell(method="gradient") -> Cell:
    return Cell(photo="sample-chelsea", model="tiny", baseline="black", method=method)


def finish(jobs, size=10) -> None:
    """The running task ends well."""
    task = jobs.doing.begun[-1]
    task.folder.mkdir()
    write_answer(task.folder, {"kind": task.question.kind})
    (task.folder / "map.f32").write_bytes(b"\0" * size)
    jobs.done(task.serial, task.folder)


def state(jobs, key) -> str:
    return jobs.job(key).state


def test_equal_questions_are_one_job(answers):
    jobs = jobs_with(answers)
    first, second = jobs.ask(cell()), jobs.ask(cell())
    assert first.key == second.key
    assert len(jobs.doing.begun) == 1
    finish(jobs)
    assert jobs.ask(cell()).state == "done"
    assert len(jobs.doing.begun) == 1


def test_one_job_runs_at_a_time_and_the_others_know_their_place(answers):
    jobs = jobs_with(answers)
    keys = [jobs.ask(cell(f"m{k}")).key for k in range(3)]
    assert [state(jobs, key) for key in keys] == ["running", "queued", "queued"]
    assert [jobs.job(key).place for key in keys] == [0, 1, 2]
    finish(jobs)
    assert [state(jobs, key) for key in keys] == ["done", "running", "queued"]


def test_brief_questions_pass_long_ones_but_not_each_other_nor_what_runs(answers):
    jobs = jobs_with(answers)
    brief = [Preview(photo="sample-chelsea", model="tiny", baseline=each) for each in ("black", "white")]
    long = [cell("gradient"), cell("grad_cam"), cell("taylor")]
    keys = [jobs.ask(question).key for question in (*long, *brief)]
    assert [jobs.job(key).place for key in keys] == [0, 3, 4, 1, 2]
    for _ in keys:
        finish(jobs)
    assert [task.question for task in jobs.doing.begun] == [long[0], *brief, *long[1:]]


def test_nothing_begins_before_the_worker_is_ready(answers):
    jobs = jobs_with(answers, ready=False)
    key = jobs.ask(cell()).key
    assert (state(jobs, key), jobs.doing.begun) == ("queued", [])
    jobs.ready()
    assert state(jobs, key) == "running"


def test_progress_is_that_of_the_running_task_only(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(cell()).key
    jobs.advanced(1, Progress(3, 10, "gradients"))
    jobs.advanced(7, Progress(9, 10, "another"))
    assert jobs.job(key).progress == Progress(3, 10, "gradients")


def test_what_a_question_needs_comes_first_and_is_handed_over(answers):
    jobs = jobs_with(answers)
    curves = Curves(cells=(cell("a"), cell("b")), baselines=("black",))
    key = jobs.ask(curves).key
    assert [task.question for task in jobs.doing.begun] == [cell("a")]
    finish(jobs)
    finish(jobs)
    task = jobs.doing.begun[-1]
    assert task.question == curves
    assert [task.needs[task.keys[each]].name for each in curves.cells] == list(task.needs)
    assert all(folder.is_dir() for folder in task.needs.values())
    finish(jobs)
    assert state(jobs, key) == "done"


def test_a_job_fails_with_the_words_of_what_it_needs(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(Sanity(cell=cell())).key
    jobs.failed(jobs.doing.begun[-1].serial, "no layer 'x'.")
    assert (state(jobs, key), jobs.job(key).error) == ("failed", "no layer 'x'.")
    assert len(jobs.doing.begun) == 1


def test_a_failed_question_can_be_asked_again(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(cell()).key
    jobs.failed(1, "out of memory.")
    assert jobs.ask(cell()).state == "running"
    assert state(jobs, key) == "running"


def test_a_verdict_is_drawn_from_what_there_is_and_told_what_there_is_not(answers):
    jobs = jobs_with(answers)
    verdict = Verdict(cell=cell())
    key = jobs.ask(verdict).key
    while jobs.job(key).state == "queued":
        task = jobs.doing.begun[-1]
        if isinstance(task.question, Deviation):
            jobs.failed(task.serial, "no activations.")
        else:
            finish(jobs)
    assert state(jobs, key) == "done"
    answer = answers.answer(key)
    assert answer["missing"] == {"deviation": "no activations."}
    assert set(answer["parts"]) == {"cell", "curves", "deviation", "sanity"}


def test_a_verdict_without_its_map_fails(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(Verdict(cell=cell())).key
    while jobs.job(key).state == "queued":
        jobs.failed(jobs.doing.begun[-1].serial, "no such thing.")
    assert (state(jobs, key), jobs.job(key).error) == ("failed", "no such thing.")


def test_cancelling_stops_a_running_task_and_its_late_answer_is_not_taken(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(cell()).key
    other = jobs.ask(cell("other")).key
    assert jobs.cancel(key).state == "cancelled"
    assert jobs.doing.cancelled == [1]
    assert state(jobs, other) == "queued"
    finish(jobs)
    assert (state(jobs, key), answers.answer(key)) == ("cancelled", None)
    assert state(jobs, other) == "running"


def test_cancelling_also_stops_what_was_only_worked_out_for_it(answers):
    jobs = jobs_with(answers)
    kept = jobs.ask(cell("a")).key
    curves = Curves(cells=(cell("a"), cell("b")), baselines=("black",))
    key = jobs.ask(curves).key
    jobs.cancel(key)
    assert state(jobs, kept) == "running"
    assert jobs.unfinished == 1


def test_a_cancelled_job_can_be_asked_again_while_its_task_is_still_stopping(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(cell()).key
    jobs.cancel(key)
    assert jobs.ask(cell()).state == "queued"
    jobs.stopped(1)
    assert state(jobs, key) == "running"
    finish(jobs)
    assert state(jobs, key) == "done"


def test_what_needs_a_part_that_was_cancelled_and_asked_anew_waits_for_it(answers):
    jobs = jobs_with(answers)
    jobs.ask(cell("busy"))
    part = jobs.ask(cell("a")).key
    whole = jobs.ask(Sanity(cell=cell("a"))).key
    jobs.cancel(part)
    jobs.ask(cell("a"))
    finish(jobs)
    assert (state(jobs, part), state(jobs, whole)) == ("running", "queued")
    finish(jobs)
    assert state(jobs, whole) == "running"


def test_a_full_queue_refuses_whole_questions_and_takes_shared_ones(answers):
    jobs = jobs_with(answers, most=3)
    jobs.ask(cell("a"))
    jobs.ask(cell("b"))
    with pytest.raises(Full, match="busy"):
        jobs.ask(Sanity(cell=cell("c")))
    assert jobs.unfinished == 2
    jobs.ask(Sanity(cell=cell("a")))
    assert jobs.unfinished == 3


def test_the_least_recently_used_answers_make_room_and_can_be_asked_again(answers):
    jobs = jobs_with(answers)
    keys = []
    for k in range(3):
        keys.append(jobs.ask(cell(f"m{k}")).key)
        finish(jobs, size=4500)
        if k == 1:
            assert answers.answer(keys[0])
    assert jobs.job(keys[1]) is None
    assert state(jobs, keys[0]) == "done"
    assert not answers.place(keys[1]).exists()
    assert answers.total_bytes < 10_000
    assert jobs.ask(cell("m1")).state == "running"


def test_an_answer_that_a_waiting_job_needs_is_not_dropped(answers):
    jobs = jobs_with(answers)
    jobs.ask(Curves(cells=(cell("a"), cell("b"), cell("c")), baselines=("black",)))
    for _ in range(3):
        finish(jobs, size=4500)
    assert all(folder.is_dir() for folder in jobs.doing.begun[-1].needs.values())


def test_files_are_those_that_answers_of_the_kind_have(answers):
    jobs = jobs_with(answers)
    key = jobs.ask(cell()).key
    task = jobs.doing.begun[-1]
    task.folder.mkdir()
    for name in ("answer.json", "map.f32", "secret.txt", "x.png"):
        (task.folder / name).write_text("{}")
    jobs.done(task.serial, task.folder)
    assert answers.file(key, "map.f32") == b"{}"
    for name in ("secret.txt", "x.png", "../map.f32", "map.f32/", "", "photo.png", "map.f32\n"):
        assert answers.file(key, name) is None


def test_answers_are_private_and_go_with_the_studio(tmp_path):
    answers = Answers(100, tmp_path)
    assert answers.folder.stat().st_mode & 0o777 == 0o700
    answers.close()
    assert not answers.folder.exists()


def test_a_preview_needs_nothing():
    assert Preview(photo="sample-chelsea", model="tiny", baseline="black").needs() == ()


# A worker process, with other things to do than to load torch.


def beginning(folder: Path) -> Beginning:
    return Beginning(models=(), baselines=(), device=None, results=None, bank=(), folder=folder)


def obedient(beginning, connection, cancelled) -> None:
    connection.send(Ready(Catalogue(methods=(), baselines=(), models=())))
    while True:
        task = connection.recv()
        if task.question.method == "dies":
            os._exit(3)
        if task.question.method == "hangs":
            time.sleep(600)
        connection.send(Advanced(task.serial, 1, 2, "half"))
        task.folder.mkdir()
        write_answer(task.folder, {"pid": os.getpid()})
        connection.send(Done(task.serial, task.folder))


def stillborn(beginning, connection, cancelled) -> None:
    os._exit(1)


class Studio:
    """Jobs with a real process behind them."""

    def __init__(self, answers, target, grace=0.2) -> None:
        self.jobs = jobs_with(answers, ready=False)
        self.catalogues = []
        self.worker = WorkerProcess(
            beginning(answers.folder), self.jobs, self.catalogues.append, target=target, grace=grace
        )
        self.jobs.doing = self.worker
        self.worker.start()

    def ended(self, question, seconds=30.0):
        key = self.jobs.ask(question).key
        return self.waited(key, seconds)

    def waited(self, key, seconds=30.0):
        end = time.monotonic() + seconds
        while not (job := self.jobs.job(key)).is_finished and time.monotonic() < end:
            time.sleep(0.01)
        return job


@pytest.fixture
def started(answers):
    studios = []

    def start(target):
        studios.append(Studio(answers, target))
        return studios[-1]

    yield start
    for studio in studios:
        studio.worker.close()


def test_a_worker_that_dies_fails_its_job_in_words_and_is_started_anew(started, answers):
    studio = started(obedient)
    dead = studio.ended(cell("dies"))
    assert dead.state == "failed"
    assert "exit code 3" in dead.error
    assert "ask again" in dead.error
    assert studio.ended(cell("works")).state == "done"
    assert len(studio.catalogues) == 2


def test_a_worker_that_cannot_start_is_given_up_and_everybody_is_told(started):
    studio = started(stillborn)
    job = studio.ended(cell())
    assert job.state == "failed"
    assert "several times" in job.error
    with pytest.raises(Refused, match="restart the studio"):
        studio.jobs.ask(cell("another"))


def test_a_cancelled_task_that_does_not_stop_is_ended_with_its_process(started, answers):
    studio = started(obedient)
    first = answers.answer(studio.ended(cell("works")).key)["pid"]
    key = studio.jobs.ask(cell("hangs")).key
    assert studio.jobs.job(key).state == "running"
    studio.jobs.cancel(key)
    second = answers.answer(studio.ended(cell("more")).key)["pid"]
    assert first != second
    assert studio.jobs.job(key).state == "cancelled"


def test_closing_ends_the_process(started):
    studio = started(obedient)
    studio.ended(cell("works"))
    pid = studio.worker.pid
    studio.worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
