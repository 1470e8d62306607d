"""The studio's pages, asked for in process: whole, escaped, linkable, and no GET starts any work."""

import json
import re
import time
from dataclasses import replace

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the studio's packages are not installed")
from starlette.testclient import TestClient

from counterpoint.studio.app import studio_app
from counterpoint.studio.catalogue import Model
from counterpoint.studio.pages import explaining
from counterpoint.studio.pages.budget import bar_of
from counterpoint.studio.pages.rendering import Pages
from counterpoint.studio.pages.views import parameters_of, view_of, with_parameters
from counterpoint.studio.questions import Cell, Results
from counterpoint.studio.settings import Limits
from studio_worker import made_up_studio

ADDRESS = "http://127.0.0.1:8000"
OWN = {"Origin": ADDRESS}
PAGES = ("/", "/explain", "/compare", "/trust", "/results")
QUERY = "photo=sample-chelsea&model=made_up&baseline=black&method=gradient"
CELL = {
    "kind": "cell",
    "photo": "sample-chelsea",
    "model": "made_up",
    "baseline": "black",
    "method": "integrated_gradients",
}


class Opened:
    def __init__(self, *, ready=True, **settings) -> None:
        self.studio, self.worker = made_up_studio(8000, **settings)
        self.client = TestClient(studio_app(self.studio), base_url=ADDRESS, raise_server_exceptions=True)
        if ready:
            self.worker.ready()

    def page(self, address: str) -> str:
        response = self.client.get(address)
        assert response.status_code == 200, response.text
        return response.text

    def part(self, what="ask", *, shown_as="cell", question=CELL, status=200, **fields) -> str:
        data = {"as": shown_as, "part": "cell-0-0", "question": json.dumps(question), **fields}
        send = self.client.post if what in ("ask", "cancel") else self.client.get
        given = {"data": data, "headers": OWN} if what in ("ask", "cancel") else {"params": data}
        response = send(f"/parts/{what}", **given)
        assert response.status_code == status, response.text
        return response.text

    def finished(self, **fields) -> str:
        text = self.part(**fields)
        for _ in range(200):
            if 'hx-get="/parts/job"' not in text:
                return text
            time.sleep(0.02)
            text = self.part("job", **fields)
        raise AssertionError("it never ended")


@pytest.fixture
def opened():
    found = Opened()
    yield found
    found.studio.close()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("ready", [True, False])
def test_every_page_is_whole_whether_the_worker_is_ready_or_not(page, ready):
    opened = Opened(ready=ready)
    text = opened.page(page)
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    assert ("loading the model" in text) is not ready
    opened.studio.close()


@pytest.mark.parametrize(
    "page",
    [*PAGES, f"/explain?{QUERY}", f"/compare?{QUERY}&baseline=blur", f"/trust?{QUERY}", "/parts/status"],
)
def test_no_get_starts_any_work(opened, page):
    opened.page(page)
    assert opened.worker.asked == []
    assert opened.studio.jobs.unfinished == 0


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_nothing_inline_that_the_policy_would_refuse(opened, page):
    text = opened.page(page)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)


def test_the_first_page_shows_an_explanation_before_the_worker_is_ready():
    opened = Opened(ready=False)
    text = opened.page("/")
    assert "/answers/example/map.f32" in text
    assert "a precomputed example" in text
    assert "<fieldset disabled" in text
    assert opened.client.get("/answers/example/map.f32").status_code == 200
    opened.studio.close()


def test_a_part_is_asked_for_followed_and_replaced_by_its_answer(opened):
    opened.worker.hold()
    waiting = opened.part()
    assert "<progress" in waiting
    assert "Cancel" in waiting
    opened.worker.let_go()
    done = opened.finished()
    key = opened.studio.key(Cell.model_validate(CELL))
    assert f"/answers/{key}/map.f32" in done
    assert "96.0 %" in done or "96 %" in done


def test_a_finished_answer_stands_in_the_page_at_once(opened):
    opened.finished()
    text = opened.page(
        "/explain?photo=sample-chelsea&model=made_up&baseline=black&method=integrated_gradients"
    )
    assert "96.0 %" in text
    assert 'hx-post="/parts/ask" hx-trigger="load delay' not in text
    assert opened.worker.asked == ["cell"]


def test_labels_and_messages_are_shown_as_they_are_and_never_as_markup(opened):
    opened.finished()
    text = opened.page(
        "/explain?photo=sample-chelsea&model=made_up&baseline=black&method=integrated_gradients"
    )
    assert "tabby &lt;b&gt;cat&lt;/b&gt;" in text
    assert "<b>cat</b>" not in text
    failed = opened.finished(question={**CELL, "baseline": "mean"})
    assert "&lt;i&gt;colour&lt;/i&gt;" in failed
    assert "Try again" in failed
    hostile = opened.client.get(
        "/explain", params={"photo": "sample-chelsea", "method": 'x"><script>alert(1)</script>'}
    )
    assert "<script>alert" not in hostile.text


def test_cancelling_says_so_and_offers_to_try_again(opened):
    opened.worker.hold()
    opened.part()
    text = opened.part("cancel")
    for _ in range(100):
        if "Cancelled." in text:
            break
        time.sleep(0.02)
        text = opened.part("job")
    assert "Cancelled." in text
    assert "Try again" in text


def test_a_full_queue_is_said_in_words_with_its_status():
    opened = Opened(limits=Limits(queue=1))
    opened.worker.hold()
    opened.part()
    text = opened.part(question={**CELL, "baseline": "blur"}, status=503)
    assert "busy" in text
    assert "Try again" in text
    opened.worker.let_go()
    opened.studio.close()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"shown_as": "<script>"}, 422),
        ({"part": "../x"}, 422),
        ({"question": {"kind": "cell"}}, 422),
        ({"question": {**CELL, "photo": "sample-../../etc/passwd"}}, 422),
        ({"question": {**CELL, "photo": "sample-nobody"}}, 404),
        ({"question": {**CELL, "baseline": "learned:file=/etc/passwd"}}, 422),
    ],
)
def test_parts_refuse_what_makes_no_sense(opened, fields, status):
    opened.part(status=status, **fields)
    assert opened.worker.asked == []


def test_a_part_whose_answer_is_gone_says_so_and_starts_nothing(opened):
    text = opened.part("job", status=404)
    assert "ask for it again" in text
    assert opened.worker.asked == []


def test_a_form_is_answered_with_the_shortest_address_of_the_same_view(opened):
    sent = f"/explain?{QUERY}&baseline.sigma=&method.tolerance=&layer=&score=logit&search="
    response = opened.client.get(sent, headers={"HX-Request": "true", "HX-Target": "view"})
    address = response.headers["hx-push-url"]
    assert address == "/explain?photo=sample-chelsea&model=made_up&target=top1&baseline=black&method=gradient"
    assert "hx-push-url" not in opened.client.get(sent).headers


def test_labels_are_searched_on_the_server_and_few_are_sent(opened):
    text = opened.page("/parts/labels?model=made_up&search=CAT")
    assert text.count("<option") == 1
    assert "2 tabby &lt;b&gt;cat&lt;/b&gt;" in text


def test_fill_only_baselines_judge_and_explain_nothing(opened):
    assert 'value="road"' in opened.page("/trust")
    assert 'value="road"' not in opened.page("/explain")


def test_a_grid_has_a_cell_for_each_row_and_column_and_says_what_it_leaves_out(opened):
    text = opened.page(
        "/compare?baseline=black&baseline=blur&method=gradient&method=grad_cam&layer=&layer=blocks.0"
    )
    assert text.count('id="part-cell-') == 8
    assert "left out" not in text
    many = "&".join(f"layer=b{k}" for k in range(30))
    text = opened.page(f"/compare?baseline=black&baseline=blur&{many}")
    assert text.count('id="part-cell-') == 24
    assert "18 more rows" in text


@pytest.mark.parametrize("kind", ["curves", "deviation", "sanity", "verdict"])
def test_every_part_of_the_trust_page_has_its_answer(opened, kind):
    question = {**({"cells": [CELL]} if kind == "curves" else {"cell": CELL}), "kind": kind}
    if kind in ("curves", "verdict"):
        question["baselines"] = ["black", "blur"]
    text = opened.finished(shown_as=kind, question=question)
    assert 'data-key="' in text, text


def test_results_are_asked_for_only_where_some_were_given(opened, tmp_path):
    assert "No results were opened" in opened.page("/results")
    (tmp_path / "manifest.json").write_text("{}")
    given = Opened(results=tmp_path)
    text = given.page("/results")
    assert "No results were opened" not in text
    assert Results().model_dump_json().replace('"', "&#34;") in text.replace("\\&#34;", "&#34;")
    given.studio.close()


class Fields(dict):
    def getlist(self, key):
        return [self[key]] if key in self else []


def test_parameters_of_one_baseline_may_come_as_fields_of_their_own(opened):
    given = Fields(
        {"baseline": "blur", "baseline.sigma": "20", "method": "lime", "method.regions": "grid(cells=4)"}
    )
    view = view_of(given, opened.studio.settings, ["sample-chelsea"])
    assert (view.baseline, view.method) == ("blur:sigma=20", "lime:regions=grid(cells=4)")
    assert parameters_of("x:regions=grid(cells=4,b=2),n=3") == {"regions": "grid(cells=4,b=2)", "n": "3"}
    assert with_parameters("blur", {"sigma": ""}) == "blur"


HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = {"HX-Request": "true", "HX-Target": "view"}


@pytest.mark.parametrize("page", ["explain", "compare", "trust"])
@pytest.mark.parametrize("typed", ["lynx", "LYNX", "5", "5 lynx"])
def test_a_search_asks_for_the_class_that_it_names(opened, page, typed):
    for name in ("search", "target"):
        text = opened.page(f"/{page}?{QUERY}&{name}={typed}")
        assert '"target":5' in text.replace("&#34;", '"').replace("\\", "")
        assert 'name="target" value="5" checked' in text
        assert 'value="top1" checked' not in text
    response = opened.client.get(f"/{page}?{QUERY}&search={typed}&target=top1", headers=FORM)
    assert "target=5" in response.headers["hx-push-url"]


@pytest.mark.parametrize("page", ["explain", "compare", "trust"])
@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("lynxx", "5 lynx"),
        ("1 lynx", "“lynx” is 5 lynx"),
        ("-1 x", "class is called “-1 x”"),
        ("99999999999", "from 0 to 5"),
    ],
)
def test_a_search_that_names_no_class_is_refused_and_explains_none(opened, page, typed, word):
    address = f"/{page}?{QUERY}&search={typed}&target=top1"
    plain = opened.client.get(address, headers=HTML)
    assert plain.status_code == 422
    assert plain.headers["content-type"].startswith("text/html")
    assert word in plain.text
    sent = opened.client.get(address, headers=FORM)
    assert sent.status_code == 422
    assert sent.headers["hx-push-url"] == "false"
    assert 'id="sought"' in sent.text
    assert 'id="view"' not in sent.text
    assert word in sent.text
    assert opened.worker.asked == []


def test_what_is_typed_is_looked_up_before_it_is_asked(opened):
    assert 'value="5" checked' in opened.page("/parts/labels?model=made_up&search=lynx")
    refused = opened.page("/parts/labels?model=made_up&search=lyn")
    assert "refused" in refused
    assert "5 lynx" in refused
    assert 'id="sought"' not in opened.page("/parts/labels?model=made_up&search=")


def test_a_class_that_is_in_the_list_is_marked_there_and_not_offered_twice(opened):
    opened.finished(shown_as="top", question={"kind": "top", "photo": "sample-chelsea", "model": "made_up"})
    text = opened.page(f"/explain?{QUERY}&search=tench")
    assert 'data-mark="0"' in text
    assert text.count('name="target" value="0"') == 1
    assert 'name="target" value="0" checked' in text
    first = opened.page(f"/explain?{QUERY}&target=2")
    assert 'data-mark="top1"' in first


def test_while_the_model_loads_a_label_is_refused_and_not_taken_for_another_class():
    opened = Opened(ready=False)
    response = opened.client.get(f"/explain?{QUERY}&search=lynx", headers=HTML)
    assert response.status_code == 422
    assert "still loading" in response.text
    opened.studio.close()


# ---- what is refused


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/no/such/page", 404, "no such page"),
        ("/explain?photo=upload-" + "0" * 32, 404, "what was sent goes when the studio ends"),
        ("/trust?photo=folder-0", 404, "another folder"),
        ("/save/nothing.zip", 404, "no such explanation"),
        (f"/explain?{QUERY}&score=rank", 422, "score"),
    ],
)
def test_people_are_refused_with_a_page_and_programs_with_json(opened, path, status, word):
    page = opened.client.get(path, headers=HTML)
    assert page.status_code == status
    assert page.text.startswith("<!doctype html>")
    assert word in page.text
    assert 'href="/"' in page.text
    assert "studio.css" in page.text
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        plain = opened.client.get(path, headers=headers)
        assert plain.status_code == status
        assert word in plain.json()["error"]


def test_the_api_answers_in_json_in_a_browser_too(opened):
    assert opened.client.get("/api/jobs/nothing", headers=HTML).json()["error"]


def test_a_kept_address_whose_photograph_is_gone_can_be_asked_of_another(opened):
    gone = opened.client.get(f"/trust?{QUERY.replace('sample-chelsea', 'upload-0')}", headers=HTML)
    assert 'href="/trust?model=made_up&amp;baseline=black&amp;method=gradient"' in gone.text


# ---- the frame


def test_the_status_says_that_work_goes_on(opened):
    assert ">ready<" in opened.page("/parts/status")
    opened.worker.hold()
    opened.part()
    busy = opened.page("/parts/status")
    assert 'class="status busy"' in busy
    assert ">working<" in busy
    opened.worker.let_go()
    opened.finished()
    assert ">ready<" in opened.page("/parts/status")


def test_a_model_that_could_not_be_loaded_is_said_on_every_page_and_in_the_terminal():
    said = []
    opened = Opened()
    opened.studio._say = said.append
    broken = Model(name="made_up", title="Made up", error="its <weights> are not there.")
    opened.studio._learn(replace(opened.studio.catalogue, models=(broken,)))
    for page in PAGES:
        text = opened.page(page)
        assert 'class="status failed"' in text
        assert "could not be loaded: its &lt;weights&gt; are not there." in text
    assert said == ["error: the model 'made_up' could not be loaded: its <weights> are not there."]
    opened.studio.close()


def test_a_worker_that_is_gone_for_good_is_said(opened):
    opened.studio.jobs.died("the process ended.", broken=True)
    text = opened.page("/")
    assert 'class="status failed"' in text
    assert "The process ended." in text


def test_results_that_were_opened_come_first(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    given = Opened(results=tmp_path)
    start = given.client.get("/", follow_redirects=False)
    assert (start.status_code, start.headers["location"]) == (303, "/results")
    tabs = re.findall(r'<a href="/(\w+)', given.page("/results").partition("<nav")[2])
    assert tabs == ["results", "explain", "compare", "trust"]
    given.studio.close()


def test_from_an_explanation_compare_has_the_usual_baselines_beside_it(opened):
    text = opened.page("/explain?photo=sample-chelsea&model=made_up&baseline=blur&method=gradient")
    address = re.search(r'href="(/compare[^"]*)"', text)[1].replace("&amp;", "&")
    assert address.count("baseline=") == 3
    assert "There is one map only" not in opened.page(address)
    assert "There is one map only" in opened.page("/compare?baseline=blur&method=gradient")


def test_ones_own_photographs_come_first(tmp_path):
    for name in ("b.png", "a.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    opened = Opened(images=tmp_path)
    sent = opened.studio.add_upload((tmp_path / "a.png").read_bytes(), "mine.png")
    assert [photo.title for photo in opened.studio.photos()][:4] == ["mine.png", "a", "b", "Chelsea the cat"]
    text = opened.page("/explain")
    assert text.index(f'value="{sent.id}"') < text.index('value="sample-chelsea"')
    opened.studio.close()


def test_an_explanation_shows_how_much_cancels_and_how_well_the_map_itself_is_known(opened):
    opened.finished()
    key = opened.studio.key(Cell.model_validate(CELL))
    plain = opened.studio.answer(key)
    page = Pages(opened.studio)
    cell = Cell.model_validate(CELL)
    guarded = {**plain, "relative_error": 0.0072, "cancellation": 180.0, "value_error": 0.032}
    values = explaining.result(page, cell, key, guarded)
    text = page.text("explanation.html", view=None, **values)
    assert 'class="guarded"' in text
    assert "<dd>180</dd>" in text
    assert "≈ 3.2 %" in text
    assert 'class="fine"' not in text


@pytest.mark.parametrize("nothing", [{"relative_error": None, "undefined": "target too small"}])
def test_no_place_is_named_where_there_is_nothing_to_explain(opened, nothing):
    opened.finished()
    cell = Cell.model_validate(CELL)
    key = opened.studio.key(cell)
    answer = {**opened.studio.answer(key), **nothing}
    assert explaining.result(Pages(opened.studio), cell, key, answer)["where"] == ""


def test_what_waits_behind_other_work_says_so(opened):
    opened.worker.hold()
    opened.part()
    preview = {"kind": "preview", "photo": "sample-chelsea", "model": "made_up", "baseline": "blur"}
    assert "waits for other work" in opened.part(shown_as="preview", question=preview)
    opened.worker.let_go()
    opened.finished()
    assert "baseline.png" in opened.finished(shown_as="preview", question=preview)


def test_without_scripts_a_finished_map_is_its_figure(opened):
    opened.finished()
    key = opened.studio.key(Cell.model_validate(CELL))
    text = opened.page(
        "/explain?photo=sample-chelsea&model=made_up&baseline=black&method=integrated_gradients"
    )
    assert re.search(rf'<noscript><a href="/answers/{key}/figure.png">', text)
    assert opened.client.get(f"/answers/{key}/figure.png").status_code == 200


def test_a_target_in_words_is_refused_with_what_a_target_is(opened):
    response = opened.client.post("/api/jobs", json={**CELL, "target": "tabby"}, headers=OWN)
    assert response.status_code == 422
    assert "the index of a class" in response.json()["error"]


def test_the_bar_adds_up_to_the_target_whatever_the_signs():
    bar = bar_of({"quadrature": 1.5, "display": -0.5, "baseline": 0.0}, 10.0, 9.0, unit="logits")
    missing, beyond = bar.parts
    scale = 1000 / 10.5
    assert bar.explained == (0.0, pytest.approx(8.5 * scale, abs=0.01))
    assert missing.x == pytest.approx(8.5 * scale, abs=0.01)
    assert missing.x + missing.width == pytest.approx(bar.target, abs=0.02)
    assert beyond.x == pytest.approx(bar.target, abs=0.02)
    assert beyond.x + beyond.width == pytest.approx(1000, abs=0.02)
    assert (missing.text, beyond.text) == ("+1.5", "−0.5")  # noqa: RUF001 (a minus sign)


def test_the_bar_of_a_negative_target_is_turned_round():
    plain, turned = (bar_of({"quadrature": s * 1.0}, s * 4.0, s * 3.0, unit="logits") for s in (1, -1))
    assert (plain.explained, plain.target, plain.parts[0].x) == (
        turned.explained,
        turned.target,
        turned.parts[0].x,
    )
    assert turned.parts[0].text == "−1"  # noqa: RUF001 (a minus sign)


@pytest.mark.parametrize(("missing", "target"), [(7.0, 2.0), (-9.0, 2.0), (0.0, 0.0), (1e-12, 5.0)])
def test_the_bar_stays_within_its_ends(missing, target):
    bar = bar_of({"operator": missing}, target, target - missing, unit="logits")
    for part in bar.parts:
        assert 0 <= part.x <= part.x + part.width <= 1000.01
    assert 0 <= bar.target <= 1000
