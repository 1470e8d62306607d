"""The studio in a real browser: its three journeys, by mouse and by keyboard, quietly, at any width, with a made-up worker."""

import io
import re
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio's packages are not installed")
import uvicorn
from PIL import Image
from scipy.stats import spearmanr

from counterpoint.studio.app import studio_app
from counterpoint.studio.questions import Cell
from studio_worker import SIDE, made_up_studio, values_of

pytestmark = pytest.mark.browser

EXPLAINED = "/explain?photo=sample-coffee&model=made_up&baseline=black&method=integrated_gradients"
COMPARED = (
    "/compare?photo=sample-coffee&model=made_up&baseline=black&baseline=blur"
    "&method=integrated_gradients&method=grad_cam&method=gradient"
)
MINUS = "\N{MINUS SIGN}"
TRUSTED = "/trust?photo=sample-coffee&model=made_up&baseline=black&method=grad_cam&judge=black&judge=blur"


class Served:
    """A studio that answers at a port of its own."""

    def __init__(self, *, ready: bool = True, **settings) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.studio, self.worker = made_up_studio(self.port, **settings)
        config = uvicorn.Config(studio_app(self.studio), log_level="error", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        if ready:
            self.worker.ready()

    def close(self) -> None:
        self.worker.let_go()
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.close()


class Visit:
    """A page with all that it said and asked for."""

    def __init__(self, browser, served: Served, path: str = "/", **options) -> None:
        self.home = f"http://127.0.0.1:{served.port}"
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.outside: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._note)
        self.page.goto(self.home + path)

    def _note(self, request) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.outside.append(request.url)

    def close(self, *, quiet: bool = True) -> None:
        self.context.close()
        assert self.outside == []
        if quiet:
            assert self.said == []


@pytest.fixture
def visit(browser, served) -> Iterator:
    opened = []

    def go(path: str = "/", **options) -> Visit:
        opened.append(Visit(browser, served, path, **options))
        return opened[-1]

    yield go
    for each in opened:
        each.close()


def wait_for_maps(page, count: int) -> None:
    page.wait_for_function(
        "n => document.querySelectorAll('canvas[data-map][data-drawn]').length >= n", arg=count
    )


def shades(canvas) -> tuple[int, int]:
    """The least red and the least blue of a canvas: how far it goes towards blue, and towards orange."""
    return canvas.evaluate(
        """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return [0, 2].map((channel) => data.filter((_, k) => k % 4 === channel).reduce((a, b) => Math.min(a, b)));
        }"""
    )


# ---- explain


def test_the_first_page_shows_the_example_while_the_worker_loads_and_then_comes_alive(browser):
    served = Served(ready=False)
    visit = Visit(browser, served)
    wait_for_maps(visit.page, 1)
    assert "loading the model" in visit.page.inner_text("#status")
    assert "Against a blurred image" in visit.page.inner_text("#lead")
    assert visit.page.locator("#controls > fieldset:disabled").count() == 1
    served.worker.ready()
    visit.page.wait_for_selector("#controls > fieldset:enabled")
    visit.page.wait_for_selector("#status.ready:has-text('ready')")
    assert visit.page.locator("#part-main").get_attribute("data-key") == "example"
    visit.close()
    served.close()


def test_a_photograph_is_chosen_and_explained_by_keyboard_and_the_view_can_be_linked(visit):
    page = visit().page
    page.wait_for_selector("#controls > fieldset:enabled")
    page.focus("[name=photo][value=sample-chelsea]")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
        if page.locator("[name=photo][value=sample-coffee]").is_checked():
            break
    page.wait_for_selector("#part-top b:has-text('60 %')")
    page.select_option("#baseline", "black")
    page.wait_for_selector("[name='baseline.sigma']", state="detached")
    page.select_option("#baseline", "blur")
    page.fill("[name='baseline.sigma']", "30")  # waits for the field, which comes with the choice
    page.keyboard.press("Tab")
    assert "Changed" in page.inner_text("#changed")
    page.focus("button.primary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#part-main[data-key]:not([data-key=example]):not([data-key=''])")
    assert "96.0 %" in page.inner_text("#lead")
    assert "upper left quarter" in page.inner_text("#lead")
    assert "tabby <b>cat</b>" in page.inner_text("#lead")
    assert page.inner_text("#changed") == ""
    assert "sigma%3D30" in page.url
    assert "photo=sample-coffee" in page.url
    wait_for_maps(page, 1)
    again = visit(page.url.split("/", 3)[3].join(["/", ""])).page
    wait_for_maps(again, 1)
    assert again.inner_text("#lead") == page.inner_text("#lead")
    page.go_back()
    page.wait_for_selector("#part-main[data-key=example]")


def test_the_numbers_add_up_and_the_budget_is_a_bar(visit):
    page = visit(EXPLAINED).page
    page.wait_for_selector(".strip .fine")
    numbers = [
        float(text.split()[0].replace(MINUS, "-")) for text in page.locator(".strip dd").all_inner_texts()
    ]
    score, baseline, target, result, error = numbers
    assert score - baseline == pytest.approx(target, abs=0.02)
    assert target - result == pytest.approx(error, abs=0.02)
    assert page.locator(".budget rect").count() == 3
    assert "quadrature" in page.inner_text(".budget ul")


def test_pointing_at_the_map_reads_its_value_and_arrow_keys_do_too(visit):
    page = visit(EXPLAINED).page
    wait_for_maps(page, 1)
    box = page.locator("canvas[data-large]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 10.5 / SIDE, box["y"] + box["height"] * 8.5 / SIDE)
    reading = page.inner_text("#reading")
    assert reading.startswith("row 8, column 10: +")
    cell = Cell(photo="sample-coffee", model="made_up", baseline="black", method="integrated_gradients")
    value = np.float32(values_of(cell)[8 * SIDE + 10])
    assert float(reading.split(": +")[1].split()[0]) == pytest.approx(value, rel=0.02)
    page.focus("canvas[data-large]")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#reading").startswith("row 13, column 10")
    page.keyboard.press("Shift+ArrowLeft")
    assert page.inner_text("#reading").startswith("row 13, column 9")


def test_opacity_sign_and_strength_change_the_picture(visit):
    page = visit(EXPLAINED).page
    wait_for_maps(page, 1)
    canvas = page.locator("canvas[data-large]")
    picture = lambda: canvas.evaluate("canvas => canvas.toDataURL()")  # noqa: E731
    first = picture()
    page.focus("[data-view=opacity]")
    page.keyboard.press("End")
    page.wait_for_function(
        "before => document.querySelector('canvas[data-large]').toDataURL() !== before", arg=first
    )
    blue = shades(canvas)[1]
    assert blue < 60  # where it is orange
    page.check("[name=view-sign][value=against]")
    page.wait_for_timeout(200)
    assert shades(canvas)[1] > 100
    page.check("[name=view-sign][value=both]")
    page.focus("[data-view=strength]")
    page.keyboard.press("Home")
    page.wait_for_timeout(200)
    assert shades(canvas)[1] > blue
    page.reload()
    assert page.input_value("[data-view=opacity]") == "100"


def test_long_work_shows_how_far_it_is_and_can_be_cancelled_and_tried_again(visit, served):
    served.worker.hold()
    page = visit(EXPLAINED).page
    page.wait_for_selector(".waiting progress[value='0.3']")
    assert "integrated gradients" in page.inner_text(".waiting")
    page.focus("#cancel-main")
    page.wait_for_timeout(1200)  # the fragment was replaced, the focus stays
    assert page.evaluate("document.activeElement.id") == "cancel-main"
    page.keyboard.press("Enter")
    page.wait_for_selector(".waiting.failed")
    assert "Cancelled." in page.inner_text(".waiting")
    served.worker.let_go()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#part-main[data-key]:not([data-key=''])")


def test_an_answer_that_a_click_on_cancel_overtook_is_dropped(visit, served):
    served.worker.hold()
    page = visit(EXPLAINED).page
    page.wait_for_selector(".waiting progress[value='0.3']")
    late = []
    page.route("**/parts/job*", lambda route: late.append(route))
    while not late:
        page.wait_for_timeout(50)
    page.click("#cancel-main")
    page.wait_for_selector(".waiting.failed")
    late[0].continue_()
    page.wait_for_timeout(300)  # that its place is gone would be said now
    assert "Cancelled." in page.inner_text(".waiting")
    served.worker.let_go()


def test_a_failure_is_one_clear_message(visit):
    page = visit(EXPLAINED.replace("black", "mean")).page
    page.wait_for_selector(".waiting.failed")
    assert "the mean <i>colour</i> cannot be worked out today." in page.inner_text(".waiting.failed")


@pytest.mark.parametrize("size", [(1440, 900), (360, 800)])
def test_nothing_jumps_when_the_answer_comes(visit, served, size):
    served.worker.hold()
    page = visit(EXPLAINED, viewport={"width": size[0], "height": size[1]}).page
    page.wait_for_selector(".waiting progress[value='0.3']")
    tops = lambda: page.evaluate(  # noqa: E731
        "['.stage', '.viewer', '.strip'].map((each) => Math.round(document.querySelector(each).getBoundingClientRect().top))"
    )
    before = tops()
    served.worker.let_go()
    page.wait_for_selector("#part-main[data-key]:not([data-key=''])")
    wait_for_maps(page, 1)
    assert max(abs(a - b) for a, b in zip(before, tops(), strict=True)) <= 2


def test_a_class_is_found_by_its_label(visit):
    page = visit().page
    page.wait_for_selector("#controls > fieldset:enabled")
    page.focus("[name=search]")
    page.keyboard.type("gold")
    page.wait_for_selector("#labels option[value='1 goldfish']", state="attached")
    page.fill("[name=search]", "1 goldfish")
    page.click("button.primary")
    page.wait_for_url(re.compile("target=1&"))


def chosen(page) -> list[str]:
    return page.eval_on_selector_all(
        "#controls [name=target]:checked", "all => all.map((each) => each.value)"
    )


@pytest.mark.parametrize("path", ["/explain", "/compare", "/trust"])
def test_a_label_that_is_typed_is_the_class_that_is_asked_for(visit, path):
    page = visit(path).page
    page.wait_for_selector("#part-top b:has-text('60 %')")
    assert chosen(page) == ["top1"]
    page.fill("#search", "CUP")
    page.wait_for_selector("#sought [value='4']:checked")
    assert chosen(page) == ["4"]
    assert "Changed" in page.inner_text("#changed")
    page.click("button.primary")
    page.wait_for_url(re.compile("target=4&"))
    page.wait_for_function("() => document.getElementById('search').value === ''")
    assert chosen(page) == ["4"]
    page.wait_for_function("() => document.getElementById('changed').textContent === ''")


def test_one_of_the_list_that_is_typed_is_marked_there_and_a_later_click_wins(visit):
    page = visit("/explain").page
    page.wait_for_selector("#part-top b:has-text('60 %')")
    page.fill("#search", "lynx")
    page.wait_for_selector("#part-top [value='5']:checked")
    page.check("#part-top [name=target][value='3']")
    assert page.input_value("#search") == ""
    with page.expect_response("**/parts/ask"):  # what the controls fetch leaves the choice alone
        page.select_option("#baseline", "black")
    page.wait_for_timeout(300)
    assert chosen(page) == ["3"]
    page.click("button.primary")
    page.wait_for_url(re.compile("target=3&"))
    assert chosen(page) == ["3"]


def test_a_text_that_names_no_class_is_refused_at_its_field_and_asks_nothing(visit, served):
    page = visit(EXPLAINED).page
    page.wait_for_selector("#part-main[data-key]:not([data-key=''])")
    page.wait_for_selector("#part-top b:has-text('60 %')")
    asked, address = len(served.worker.asked), page.url
    page.fill("#search", "lynxx")
    page.wait_for_selector("#sought-note:has-text('near it: 5 lynx')")
    assert chosen(page) == []
    page.click("button.primary")
    page.wait_for_selector("#sought-note.wrong")
    assert "Not asked" in page.inner_text("#changed")
    assert page.evaluate("document.activeElement.id") == "search"
    assert page.get_attribute("#search", "aria-invalid") is not None
    assert (len(served.worker.asked), page.url) == (asked, address)
    page.fill("#search", "")
    page.wait_for_function("() => !document.getElementById('sought-note')")
    assert chosen(page) == ["top1"]


def test_a_text_that_is_sent_before_it_was_looked_up_is_refused_by_the_server(browser, served):
    visit = Visit(browser, served, "/explain")
    page = visit.page
    page.wait_for_selector("#part-top b:has-text('60 %')")
    page.focus("#search")
    page.wait_for_timeout(300)
    page.evaluate("document.getElementById('search').value = 'lynxx'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sought-note.wrong:has-text('near it: 5 lynx')")
    page.wait_for_selector("#changed:has-text('Not asked')")
    assert page.url.endswith("/explain")
    assert page.locator("#part-main").count() == 1
    visit.close(quiet=False)  # the browser itself notes the status 422


def test_on_a_phone_the_result_comes_into_sight_and_a_tap_reads_the_map(visit):
    page = visit(
        EXPLAINED, viewport={"width": 360, "height": 740}, has_touch=True, reduced_motion="reduce"
    ).page
    page.wait_for_selector("#controls > fieldset:enabled")
    wait_for_maps(page, 1)
    page.select_option("#baseline", "blur")
    page.locator("button.primary").tap()
    page.wait_for_url(re.compile("baseline=blur"))
    wait_for_maps(page, 1)
    top = page.evaluate("document.getElementById('view').getBoundingClientRect().top")
    assert 0 <= top < 200
    assert page.evaluate("document.activeElement.id") == "view"
    page.locator("canvas[data-large]").tap()
    assert re.match("row 1[56], column 1[56]: ", page.inner_text("#reading"))
    assert page.locator(".cross.on").count() == 1


def test_the_chosen_photograph_is_in_sight_and_no_panel_scrolls_within_another(browser, tmp_path):
    for k in range(40):
        Image.new("RGB", (8, 8), (6 * k, 90, 120)).save(tmp_path / f"{k:02}.png")
    served = Served(images=tmp_path)
    visit = Visit(browser, served)
    visit.page.wait_for_selector("#controls > fieldset:enabled")
    seen = visit.page.evaluate(
        """() => {
          const box = document.getElementById("photos").getBoundingClientRect();
          const chosen = document.querySelector("#photos :checked").parentElement.getBoundingClientRect();
          return chosen.top >= box.top && chosen.bottom <= box.bottom;
        }"""
    )
    assert seen
    nested = visit.page.evaluate(
        """() => [...document.querySelectorAll("#controls, #controls *")].filter((each) =>
          ["auto", "scroll"].includes(getComputedStyle(each).overflowY) && each.scrollHeight > each.clientHeight + 1)
          .some((each, _, all) => all.some((other) => other !== each && other.contains(each)))"""
    )
    assert not nested
    visit.close()
    served.close()


def test_the_status_says_that_work_goes_on(visit, served):
    served.worker.hold()
    page = visit(EXPLAINED).page
    page.wait_for_selector("#status.busy:has-text('working')")
    served.worker.let_go()
    page.wait_for_selector("#status.ready")


def test_a_photograph_of_ones_own_is_taken_in_and_chosen(visit):
    page = visit().page
    page.wait_for_selector("#controls > fieldset:enabled")
    stream = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(stream, "PNG")
    page.set_input_files(
        "#upload", {"name": "my <cat>.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    )
    page.wait_for_selector("[name=photo][value^=upload-]:checked", state="attached")
    page.wait_for_function("() => document.querySelector('#photos img').naturalWidth > 0")
    assert page.locator("#photos label").first.get_attribute("title") == "my <cat>.png"


def test_a_file_that_is_no_photograph_is_refused_in_words(browser, served):
    visit = Visit(browser, served)
    visit.page.wait_for_selector("#controls > fieldset:enabled")
    visit.page.set_input_files("#upload", {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    visit.page.wait_for_function("() => document.querySelector('#upload-note').textContent.length > 20")
    assert not visit.page.locator("#upload-note").is_hidden()
    visit.close(quiet=False)  # the browser itself notes the status 415


def test_code_is_copied(browser, served):
    visit = Visit(browser, served, EXPLAINED, permissions=["clipboard-read", "clipboard-write"])
    page = visit.page
    page.wait_for_selector(".code")
    page.click(".code summary")
    page.locator("[data-copy]").first.click()
    page.wait_for_selector("[data-copy]:has-text('Copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("counterpoint explain sample:coffee --model made_up --baseline black")
    visit.close()


# ---- compare


def test_pointing_at_one_map_marks_the_same_place_in_all(visit):
    page = visit(COMPARED).page
    wait_for_maps(page, 6)
    box = page.locator("#part-cell-0-0 canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75)
    assert page.locator(".cross.on").count() == 5
    places = page.eval_on_selector_all(
        ".grid .picture", "all => all.map((each) => each.style.getPropertyValue('--x'))"
    )
    assert len(set(places)) == 1
    assert all(text.strip() for text in page.locator(".cell [data-value]").all_inner_texts())
    page.mouse.move(5, 5)
    assert page.locator(".cross.on").count() == 0


def test_agreement_is_spearmans_rank_correlation(visit):
    page = visit(COMPARED).page
    wait_for_maps(page, 6)
    page.wait_for_selector("[data-agreement] tbody tr:nth-child(6)")
    shown = page.eval_on_selector_all(
        "[data-agreement] td", f"all => all.map((each) => Number(each.textContent.replace('{MINUS}', '-')))"
    )
    maps = []
    for method in ("integrated_gradients", "grad_cam", "gradient"):
        for baseline in ("black", "blur"):
            cell = Cell(photo="sample-coffee", model="made_up", baseline=baseline, method=method)
            maps.append(np.float32(values_of(cell)))
    expected = spearmanr(np.stack(maps, axis=1)).statistic
    np.testing.assert_allclose(np.reshape(shown, (6, 6)), expected, atol=0.0051)


def test_maps_share_a_scale_by_row_all_together_or_not_at_all(visit):
    page = visit(COMPARED).page
    wait_for_maps(page, 6)
    scales = lambda: page.locator(".cell [data-own-scale]").all_inner_texts()  # noqa: E731
    page.wait_for_function("() => document.querySelector('.cell [data-own-scale]').textContent")
    by_row = scales()
    assert by_row[0] == by_row[1]
    assert by_row[2] == by_row[3]
    page.check("[name=view-shared][value=all]")
    page.wait_for_timeout(200)
    together = scales()
    assert len(set(together[:4])) == 1
    page.check("[name=view-shared][value=map]")
    page.wait_for_timeout(200)
    assert scales()[:2] != together[:2] or len(set(scales())) > 1


def test_a_slider_goes_through_the_rows_by_keyboard(visit):
    page = visit(COMPARED).page
    wait_for_maps(page, 6)
    page.wait_for_selector("[data-film-map][data-drawn]")
    picture = lambda: page.locator("[data-film-map]").evaluate("canvas => canvas.toDataURL()")  # noqa: E731
    first, name = picture(), page.inner_text("[data-film-name]")
    page.focus("#film-row")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("[data-film-name]") != name
    assert picture() != first
    assert page.get_attribute("#film-row", "aria-valuetext") == page.inner_text("[data-film-name]")


def test_pixels_are_taken_away_with_a_slider_that_shows_image_score_and_distance(visit):
    page = visit(COMPARED).page
    page.get_by_role("button", name="Work out the curves").click()
    page.wait_for_selector("[data-removal-chart] svg")
    source = page.get_attribute("[data-removal-picture]", "src")
    page.focus("#removal-fraction")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("[data-removal-fraction]") == "60 %"
    assert page.get_attribute("[data-removal-picture]", "src") != source
    facts = page.inner_text("[data-removal-facts]")
    assert "1.44" in facts  # 9 (1 - 0.6)^2
    assert "+1.8 spreads, more than for 95 % of real ones" in facts
    assert "standard deviation" in page.inner_text("[data-removal-unit]")
    assert page.locator("[data-removal-chart] circle").count() == 2
    assert page.locator("[data-removal-far] circle").count() == 2
    page.check("[name=removal-kind][value=insertion]")
    assert "insertion-0-0-6" in page.get_attribute("[data-removal-picture]", "src")


# ---- trust


def test_the_verdict_comes_with_its_reasons_and_its_evidence(visit):
    page = visit(TRUSTED).page
    page.wait_for_selector("#part-verdict[data-key] .reasons li")
    assert page.inner_text("#part-verdict .lead")
    assert page.locator(".reasons li").count() >= 3
    page.wait_for_selector("[data-curves] svg path.line")
    assert page.locator("[data-curves]").count() == 2
    assert page.locator("[data-curves]").first.locator("path.line").count() == 4
    page.wait_for_selector("#part-deviation .heat td[data-level]")
    painted = page.eval_on_selector_all(
        "#part-deviation .heat td",
        "all => new Set(all.map((each) => getComputedStyle(each).backgroundColor)).size",
    )
    assert painted > 3
    page.wait_for_selector("[data-sanity] svg path.line")
    assert page.locator("[data-sanity] path.line").count() == 3
    named = page.locator("#part-sanity .chips li").all_inner_texts()
    assert named[:2] == ["rank correlation of the values", "of their sizes"]
    assert "0.00 of the values and 0.04 of their sizes" in page.inner_text("#part-sanity > p")
    assert "0.00 of the values and 0.04 of their sizes (which decides)" in page.inner_text("#part-verdict")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_cell_of_a_heat_table(visit, scheme):
    page = visit(TRUSTED, color_scheme=scheme).page
    page.wait_for_selector("#part-deviation .heat td[data-level]")
    worst = page.evaluate(
        """() => {
          const light = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255)
            .map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
            .reduce((sum, each, k) => sum + each * [0.2126, 0.7152, 0.0722][k], 0);
          return Math.min(...[...document.querySelectorAll(".heat td")].map((cell) => {
            const style = getComputedStyle(cell);
            const [low, high] = [light(style.color), light(style.backgroundColor)].sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
          }));
        }"""
    )
    assert worst >= 4.5


# ---- results


def test_a_saved_attribution_is_drawn_with_its_numbers(browser, tmp_path):
    saved = tmp_path / "saved.safetensors"
    saved.write_bytes(b"read by the worker")
    served = Served(results=saved)
    visit = Visit(browser, served, "/")
    assert visit.page.url.endswith("/results")
    wait_for_maps(visit.page, 1)
    assert "96 % is explained." in visit.page.inner_text(".lead")
    assert "The photograph is not in the file" in visit.page.inner_text("#part-results")
    visit.page.hover("canvas[data-large]")
    assert visit.page.inner_text("[data-reading]").startswith("row ")
    assert "4.0 %" in visit.page.inner_text(".facts") or "4 %" in visit.page.inner_text(".facts")
    visit.close()
    served.close()


# ---- all pages


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
@pytest.mark.parametrize("path", ["/", COMPARED, TRUSTED, "/results"])
def test_no_page_scrolls_sideways(visit, path, width):
    page = visit(path, viewport={"width": width, "height": 900}).page
    page.wait_for_load_state("networkidle") if path == "/results" else page.wait_for_selector(
        "canvas[data-drawn]"
    )
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", ["/", COMPARED, TRUSTED])
def test_every_control_has_a_name_and_every_table_a_caption(visit, path):
    page = visit(path).page
    page.wait_for_selector("canvas[data-drawn]")
    page.wait_for_timeout(500)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll(
            "button, select, input:not([type=hidden]), img, canvas, progress, svg:not([aria-hidden])")]
          .filter((each) => !(each.getAttribute("aria-label") || each.hasAttribute("alt") || each.textContent.trim()
            || [...(each.labels || [])].some((label) => label.textContent.trim()) || each.closest("[aria-hidden=true]")))
          .map((each) => each.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    assert page.evaluate("[...document.querySelectorAll('table')].every((each) => each.caption)")
    assert page.evaluate("[...document.querySelectorAll('th')].every((each) => each.scope)")
    twice = page.evaluate(
        "[...document.querySelectorAll('[id]')].map((each) => each.id).filter((id, k, all) => all.indexOf(id) !== k)"
    )
    assert twice == []


def test_dark_mode_follows_the_system(visit):
    ground = {
        scheme: visit("/", color_scheme=scheme).page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def test_without_javascript_the_page_says_what_is_missing(visit):
    page = visit("/", java_script_enabled=False).page
    assert "needs JavaScript" in page.inner_text("main")
    assert "Against a blurred image" in page.inner_text("main")
    assert page.locator("canvas:visible, input:visible, select:visible, button:visible").count() == 0


def test_without_javascript_a_finished_explanation_is_its_figure(visit):
    wait_for_maps(visit(EXPLAINED).page, 1)
    page = visit(EXPLAINED, java_script_enabled=False).page
    assert page.locator(".stage img:visible").count() == 1
    assert page.locator(".stage img:visible").get_attribute("src").endswith("/figure.png")
    assert page.locator(".stage img:visible").evaluate("image => image.naturalWidth") > 0


def test_a_studio_that_is_gone_is_said_to_be(browser):
    served = Served()
    visit = Visit(browser, served)
    visit.page.wait_for_selector("#controls > fieldset:enabled")
    visit.page.wait_for_selector("#part-top b:has-text('%')")
    visit.page.context.set_offline(True)
    visit.page.click("button.primary")
    visit.page.wait_for_selector(".gone:has-text('does not answer')")
    visit.page.context.set_offline(False)
    visit.close(quiet=False)
    served.close()
