"""The benchmark's page in a real browser: sorting, filtering, curves, the gallery by keyboard, and that it keeps to itself."""

from collections.abc import Iterator

import pytest

from bench_folders import MadeUp, write_folder
from counterpoint.report.page import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    of = MadeUp(
        methods=("integrated_gradients", "grad_cam", "<b>hostile</b>", "gradient"),
        layers=("input", "blocks.5"),
        models=("one", "two"),
        metrics=("deletion", "insertion", "attribution_error", "information_removed", "out_of_distribution"),
        images=9,
        thumbnails=8,
    )
    return write_report(write_folder(tmp_path_factory.mktemp("bench"), of)).as_uri()


class Visit:
    """A page with all that it said and asked for."""

    def __init__(self, browser, address: str, **options) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.route("**/*", self._route)
        self.page.goto(address)
        self.page.wait_for_selector("#ranking-table tbody tr")

    def _route(self, route) -> None:
        if route.request.url.startswith("file://") or route.request.url.startswith("data:"):
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def column(self, table: str, number: int) -> list[str]:
        cells = self.page.locator(f"#{table} tbody tr > :nth-child({number})")
        return [text.strip() for text in cells.all_inner_texts()]

    def pick(self, section: str, what: str, label: str) -> None:
        self.page.select_option(f"#{section} select[data-picks='{what}']", label=label)


@pytest.fixture
def visit(browser, address) -> Iterator[Visit]:
    found = Visit(browser, address)
    yield found
    found.context.close()
    assert found.said == []
    assert found.asked == []


def test_a_click_on_a_heading_sorts_and_another_one_turns_it_round(visit):
    first = visit.page.locator("#ranking-table thead th").first
    assert first.get_attribute("aria-sort") == "ascending"
    ranks = visit.column("ranking-table", 1)
    assert [int(text.split()[0]) for text in ranks] == sorted(int(text.split()[0]) for text in ranks)
    method = visit.page.get_by_role("button", name="method").first
    method.click()
    names = visit.column("ranking-table", 2)
    assert names == sorted(names, key=str.casefold)
    assert first.get_attribute("aria-sort") is None
    method.click()
    assert visit.column("ranking-table", 2) == sorted(names, key=str.casefold, reverse=True)


def test_sorting_works_by_keyboard_and_puts_what_has_no_number_last(visit):
    visit.page.locator(
        "#errors-table thead button", has_text="method"
    ).dblclick()  # so that they stand in the middle
    button = visit.page.locator("#errors-table thead button", has_text="median")
    for _ in range(2):
        button.focus()
        visit.page.keyboard.press("Enter")
        medians = visit.page.locator("#errors-table tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].find(cell => cell.dataset.value !== undefined).dataset.value)"
        )
        known = [each for each in medians if each != ""]
        assert medians == known + [""] * (len(medians) - len(known))
    assert [float(each) for each in known] == sorted(map(float, known), reverse=True)


def test_the_ranking_can_be_filtered_by_each_of_its_four_questions(visit):
    assert len(visit.column("ranking-table", 1)) == 16
    visit.pick("ranking", "method", "grad_cam")
    assert set(visit.column("ranking-table", 2)) == {"grad_cam"}
    visit.pick("ranking", "against", "black")
    assert visit.column("ranking-table", 3) == ["black", "black"]
    assert visit.page.inner_text("#ranking-note").endswith("2 of 16 contenders; ranks are among all of them.")
    before = visit.column("ranking-table", 5)
    visit.pick("ranking", "evaluation baseline", "mean")
    under = visit.column("ranking-table", 5)
    assert before != under
    visit.pick("ranking", "metric", "deletion")
    assert visit.column("ranking-table", 5) != under
    assert visit.page.inner_text("#ranking-table caption") == "Deletion under mean: lower is better"


def test_another_model_changes_every_figure(visit):
    before = visit.column("ranking-table", 5), visit.page.inner_text("#stability-note")
    curve = visit.page.locator("#curves-figure path.line").first.get_attribute("d")
    visit.page.select_option("#model", label="two")
    assert visit.column("ranking-table", 5) != before[0]
    assert visit.page.inner_text("#stability-note") != before[1]
    assert visit.page.locator("#curves-figure path.line").first.get_attribute("d") != curve


def test_curves_can_be_picked_by_contender_kind_and_baselines(visit):
    lines = visit.page.locator("#curves-figure path.line")
    bands = visit.page.locator("#curves-figure path.area")
    assert lines.count() == bands.count() == 6
    start = lines.first.get_attribute("d")
    boxes = visit.page.locator("#curves-chips input")
    assert boxes.count() == 8
    boxes.nth(7).check()
    assert lines.count() == 7
    boxes.nth(0).uncheck()
    assert lines.count() == 6
    boxes.nth(0).check()
    visit.pick("curves", "curve", "insertion")
    inserted = lines.first.get_attribute("d")
    assert inserted != start
    visit.pick("curves", "evaluation baseline", "mean")
    assert lines.first.get_attribute("d") != inserted
    visit.pick("curves", "against", "black")
    assert visit.page.inner_text("#curves-note") == "Insertion under mean, maps against black; 9 images."


def test_pairs_can_be_narrowed_to_one_contender(visit):
    total = len(visit.column("pair-table", 1))
    visit.pick("pairs", "contender", "grad_cam against black")
    rows = list(zip(visit.column("pair-table", 1), visit.column("pair-table", 2), strict=True))
    assert 0 < len(rows) < total
    assert all("grad_cam against black" in row for row in rows)


def test_the_gallery_opens_a_map_by_keyboard_walks_through_them_and_gives_the_focus_back(visit):
    page = visit.page
    button = page.locator(".maps button").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#zoom")
    assert dialog.evaluate("dialog => dialog.open")
    title = page.inner_text("#zoom-title")
    assert title == "integrated_gradients against blur:sigma=10"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#zoom-title") != title
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#zoom-title") == title
    assert "photo-00.jpg" in page.inner_text("#zoom-facts")
    page.keyboard.press("ArrowDown")
    assert "photo-01.jpg" in page.inner_text("#zoom-facts")
    assert page.inner_text("#zoom-title") == title
    page.keyboard.press("Escape")
    assert not dialog.evaluate("dialog => dialog.open")
    assert button.evaluate("button => button === document.activeElement")


def test_maps_are_drawn_in_both_colours_and_follow_the_scale(visit):
    least = """canvas => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [0, 2].map((channel) => data.filter((_, k) => k % 4 === channel).reduce((a, b) => Math.min(a, b)));
    }"""
    canvas = visit.page.locator(".maps canvas[data-drawn]").nth(2)
    visit.page.uncheck("#gallery input[data-picks='photograph below the map']")
    _, shared_blue = canvas.evaluate(least)
    visit.page.uncheck("#gallery input[data-picks='one scale for all maps of a photograph']")
    red, blue = canvas.evaluate(least)
    assert blue < 60  # where it is orange
    assert red < 160  # where it is blue
    assert blue < shared_blue  # on its own scale a map reaches the end of the colours


def test_the_worst_cases_of_a_metric_come_first_and_then_the_best(visit):
    visit.pick("gallery", "order by", "attribution error")
    shown = lambda: [  # noqa: E731
        float(text.split()[-1])
        for text in visit.page.locator(".picture figcaption .hint").all_inner_texts()
        if text.startswith("attribution error")
    ]
    worst = shown()
    assert worst == sorted(worst, reverse=True)
    visit.pick("gallery", "first", "best cases")
    assert shown() == sorted(shown())
    assert visit.page.locator(".picture").count() == 6
    visit.page.click("#gallery-more")
    assert visit.page.locator(".picture").count() == 8


@pytest.mark.parametrize("width", [360, 768, 1280, 2000])
def test_the_page_never_scrolls_sideways(browser, address, width):
    visit = Visit(browser, address, viewport={"width": width, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.locator(".maps button").first.click()
    assert visit.page.locator("dialog#zoom").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    visit.context.close()


def test_dark_mode_follows_the_system(browser, address):
    ground = {}
    for scheme in ("light", "dark"):
        visit = Visit(browser, address, color_scheme=scheme)
        ground[scheme] = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        visit.context.close()
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_cell_of_a_heat_table(browser, address, scheme):
    visit = Visit(browser, address, color_scheme=scheme)
    worst = visit.page.evaluate(
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
    visit.context.close()
    assert worst >= 4.5


def test_every_control_has_a_name_and_every_table_a_caption(visit):
    nameless = visit.page.evaluate(
        """() => [...document.querySelectorAll(
            "button, select, input, img, canvas:not([aria-hidden]), svg:not([aria-hidden])")]
          .filter((each) => !(each.getAttribute("aria-label") || each.alt || each.textContent.trim() || each.labels?.length))
          .filter((each) => !(each.tagName === "IMG" && each.closest("dialog")) && each.id !== "zoom-map")
          .map((each) => each.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    assert visit.page.evaluate("[...document.querySelectorAll('table')].every((each) => each.caption)")
    assert visit.page.evaluate("[...document.querySelectorAll('th')].every((each) => each.scope)")


def test_names_with_markup_are_shown_as_they_are(visit):
    visit.pick("ranking", "method", "<b>hostile</b>")
    assert set(visit.column("ranking-table", 2)) == {"<b>hostile</b>"}
    assert visit.page.locator("#ranking-table b", has_text="hostile").count() == 0
