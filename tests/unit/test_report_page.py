"""The benchmark's page: what it holds, that it is one safe file, and that its numbers are those of the tables."""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from bench_folders import SIDE, MadeUp, write_folder
from counterpoint.bench.results import Results
from counterpoint.errors import InputError, OutputError
from counterpoint.report.page import gallery, write_report, writing
from counterpoint.report.page.attribution_errors import attribution_errors
from counterpoint.report.page.curves import POINTS, _line, curves
from counterpoint.report.page.listing import Listing
from counterpoint.report.page.plain import json_text
from counterpoint.report.page.trade_off import trade_off

SECTIONS = [
    "summary",
    "ranking",
    "stability",
    "pairs",
    "trade-off",
    "curves",
    "errors",
    "deviation",
    "gallery",
    "failures",
    "provenance",
    "cite",
]
HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "img", "input", "br", "wbr", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes in order, the text within each name of element, and whether tags close as they open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def data(self) -> dict:
        def refuse(word):
            raise AssertionError(f"{word} is no JSON")

        return json.loads(self.texts["script"][0], parse_constant=refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page(write_report(folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Page:
    of = MadeUp(
        methods=(HOSTILE, "</script><img src=x onerror=alert(1)>", "{{ 7 * 7 }}"),
        against=('"><b onmouseover=alert(1)>', "black"),
        evaluations=(HOSTILE, "black"),
        models=(HOSTILE,),
        prefix="<img src=https://example.org/x>",
        label="'\"><svg onload=alert(1)>",
        reason="<!-- --><script>alert(2)</script>",
        spec={"name": f"a & b {HOSTILE}"},
        images=4,
    )
    return Page(write_report(write_folder(tmp_path_factory.mktemp("hostile"), of)))


def test_the_page_has_every_section_in_order_and_each_is_named_by_its_heading(page):
    sections = page.named("section")
    assert [each["id"] for each in sections] == SECTIONS
    assert [each["aria-labelledby"] for each in sections] == [f"{name}-title" for name in SECTIONS]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"{name}-title" for name in SECTIONS} <= set(ids)
    assert len(page.named("h1")) == len(page.named("main")) == len(page.named("nav")) == 1
    assert page.open == []


def test_links_within_the_page_lead_somewhere(page):
    ids = {attributes.get("id") for _, attributes in page.elements}
    inner = [each["href"] for each in page.named("a") if each["href"].startswith("#")]
    assert len(inner) > len(SECTIONS)
    assert {address[1:] for address in inner} <= ids


def test_the_summary_says_who_is_first_and_how_sure_that_is(page):
    start = page.source.index('id="summary"')
    summary = page.source[start : page.source.index("</section>", start)]
    assert re.search(r"By insertion minus deletion, integrated_gradients against .* comes first", summary)
    assert "maps that failed" in summary
    assert "resamples of the images" in summary


def test_tables_in_the_source_have_captions_and_heads_with_a_scope(page):
    filled = page.source.count("<caption>")
    empty = sum("id" in each and each["id"] != "errors-table" for each in page.named("table"))
    assert filled + empty == len(page.named("table"))
    assert all(each.get("scope") in ("col", "row") for each in page.named("th"))


def test_nothing_is_asked_of_a_network(page):
    policy = next(each["content"] for each in page.named("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    outside = [
        (tag, name, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "poster", "data")
        and not (value or "").startswith(("#", "data:"))
    ]
    assert sorted(value for _, _, value in outside) == [
        "https://arxiv.org/abs/2509.04588",
        "https://arxiv.org/abs/2512.11433",
        "https://arxiv.org/abs/2605.22417",
    ]
    assert {(tag, name) for tag, name, _ in outside} == {("a", "href")}
    assert not page.named("link")
    style = "".join(page.texts["style"])
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_page_s_own_script_only(page):
    policy = next(each["content"] for each in page.named("meta") if "http-equiv" in each)
    digest = base64.b64encode(hashlib.sha256(page.texts["script"][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


def test_hostile_names_are_text_and_never_markup(hostile):
    assert len(hostile.named("script")) == 2
    assert not [name for _, attributes in hostile.elements for name in attributes if name.startswith("on")]
    assert hostile.named("svg") == []
    assert all((each.get("src") or "data:").startswith("data:") for each in hostile.named("img"))
    assert hostile.texts["title"] == [f"a & b {HOSTILE}: benchmark report"]
    assert HOSTILE in "".join(hostile.texts["th"])
    assert "{{ 7 * 7 }}" in hostile.source
    assert "<!-- --><script>alert(2)</script>" in "".join(hostile.texts["td"])
    assert hostile.open == []


def test_the_data_are_json_without_nan_and_cannot_end_their_script(hostile, page):
    assert hostile.data()["contenders"][0]["method"] == HOSTILE
    assert not set("<>&") & set(hostile.texts["script"][0])
    assert page.data()["models"] == ["efficientnet_lite0"]
    text = json_text({"a": float("nan"), "b": [np.float64("inf"), np.int64(3)], "c": "</script>\u2028"})
    assert json.loads(text) == {"a": None, "b": [None, 3], "c": "</script>\u2028"}
    assert "<" not in text
    assert "\u2028" not in text


def test_rankings_name_every_contender_once_for_each_evaluation_baseline(page):
    data = page.data()
    metric = [each["name"] for each in data["metrics"]].index("insertion")
    for evaluation in (-1, 0, 1, 2):
        rows = data["rankings"][f"0/{metric}/{evaluation}"]
        assert sorted(row[0] for row in rows) == list(range(6))
        assert rows[0][4] == 1
        assert all(row[2] <= row[1] <= row[3] and row[5] <= row[4] <= row[6] for row in rows)
    complexity = [each["name"] for each in data["metrics"]].index("complexity")
    assert not [place for place in data["rankings"] if place.startswith(f"0/{complexity}/")]


def test_wins_and_losses_balance_and_agree_with_the_pairs(page):
    data = page.data()
    for found in data["pairs"].values():
        assert sum(row[1] for row in found["wins"]) == sum(row[2] for row in found["wins"])
        assert sum(row[1] for row in found["wins"]) == sum(row[7] for row in found["pairs"])
        assert all(sum(row[1:]) == found["of"] - 1 for row in found["wins"])


def test_curves_are_means_over_images_with_student_s_interval(folder):
    results = Results(folder)
    listing = Listing.of(results)
    found = curves(results, listing)
    rows = results.rows(
        "SELECT scores FROM curves WHERE method = 'grad_cam' AND against = 'black' AND evaluation = 'mean' AND kind = 'insertion'"
    )
    scores = np.array([row["scores"] for row in rows])
    contender = next(
        k for k, c in enumerate(listing.contenders) if (c.method, c.against) == ("grad_cam", "black")
    )
    line = found[f"0/{listing.evaluations.index('mean')}/insertion"][str(contender)]
    np.testing.assert_allclose(line["x"], np.linspace(0, 1, 11))
    np.testing.assert_allclose(line["y"], scores.mean(0), rtol=1e-3)
    half = t.ppf(0.975, len(scores) - 1) * scores.std(0, ddof=1) / len(scores) ** 0.5
    np.testing.assert_allclose(line["half"], half, rtol=1e-2)
    assert line["images"] == len(scores) == 6


def test_long_curves_are_thinned_and_keep_both_ends():
    points = [{"fraction": k / 100, "mean": 1 - k / 100, "spread": 0.1, "images": 4} for k in range(101)]
    line = _line(points)
    assert len(line["x"]) == POINTS
    assert (line["x"][0], line["x"][-1], line["y"][-1]) == (0.0, 1.0, 0.0)


def test_attribution_errors_are_those_of_the_table_and_rates_have_none(folder):
    results = Results(folder)
    rows = attribution_errors(results, Listing.of(results))
    assert len(rows) == 6
    found = next(row for row in rows if (row["method"], row["against"]) == ("grad_cam", "black"))
    errors = [
        row["relative_error"]
        for row in results.rows(
            "SELECT relative_error FROM explanations WHERE method = 'grad_cam' AND against = 'black'"
        )
    ]
    assert found["median"] == pytest.approx(np.median(errors))
    assert found["ninety"] == pytest.approx(np.quantile(errors, 0.9))
    assert found["worst"] == max(errors)
    assert found["converged"] == pytest.approx(np.mean(np.array(errors) < 0.01))
    rate = next(row for row in rows if row["method"] == "gradient")
    assert rate["median"] is None
    assert "no sum to check" in rate["note"]


def test_the_trade_off_has_each_baseline_s_means_within_their_intervals(folder):
    results = Results(folder)
    listing = Listing.of(results)
    points = trade_off(results, listing)["0"]
    assert [listing.evaluations[point["evaluation"]] for point in points] == list(listing.evaluations)
    per_image = results.query(
        "SELECT avg(value) FROM measures WHERE metric = 'information_removed' AND evaluation = 'black' GROUP BY image"
    )[1]
    point = next(each for each in points if listing.evaluations[each["evaluation"]] == "black")
    assert point["y"][0] == pytest.approx(np.mean(per_image), rel=1e-3)
    assert all(each[1] <= each[0] <= each[2] for each in (point["x"], point["y"]))


def test_failures_are_told_with_their_reasons(page):
    start = page.source.index('id="failures"')
    told = page.source[start : page.source.index("</section>", start)]
    assert "the map has NaN in 12 of 50176 places" in told
    assert "the worker died (signal 9)" in told


def test_thumbnails_come_through_as_they_were(folder, page):
    image = page.data()["gallery"]["images"][1]
    maps = np.frombuffer(zlib.decompress(base64.b64decode(image["maps"])), np.int8)
    names = [page.data()["contenders"][row["contender"]] for row in image["rows"]]
    kept = Results(folder).query(
        "SELECT thumbnail FROM explanations WHERE image = ? AND method = ? AND against = ?",
        [image["name"], names[2]["method"], names[2]["against"]],
    )[1][0][0]
    assert maps[2 * SIDE**2 : 3 * SIDE**2].tobytes() == kept
    assert page.data()["gallery"]["photographs"][image["photograph"]].startswith("data:image/jpeg;base64,")


@pytest.mark.slow
def test_fifty_images_and_ten_methods_against_three_baselines_stay_under_15_megabytes(tmp_path):
    of = MadeUp(
        methods=[f"method_{k}" for k in range(10)],
        against=("black", "blur", "mean"),
        images=50,
        thumbnails=50,
        metrics=(),
        curves=False,
        activations=0,
        failures=(),
    )
    path = write_report(write_folder(tmp_path / "bench", of), tmp_path / "page.html")
    data = Page(path).data()
    assert path.stat().st_size < 15e6
    assert len(data["gallery"]["images"]) == 50
    assert data["gallery"]["left_out"] == 0


def test_pictures_beyond_the_budget_are_left_out_from_the_end_and_counted(folder, monkeypatch):
    monkeypatch.setattr(gallery, "BUDGET", 60_000)
    results = Results(folder)
    found = gallery.gallery(results, Listing.of(results))
    shown = [image["name"] for image in found["images"]]
    assert 0 < len(shown) < 6
    assert shown == [f"photo-{k:02}.jpg" for k in range(len(shown))]
    assert found["left_out"] == 6 - len(shown)


def test_a_hash_that_is_a_path_opens_no_file(folder, tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    results = Results(folder)
    assert gallery._photograph(results, f"../../{secret.relative_to(secret.anchor).with_suffix('')}") == ""
    assert gallery._photograph(results, str(secret.with_suffix(""))) == ""


def test_a_folder_without_any_result_still_gives_a_page(tmp_path):
    write_folder(tmp_path, MadeUp(images=0, thumbnails=0))
    page = Page(write_report(tmp_path))
    assert [each["id"] for each in page.named("section")] == [
        "summary",
        "errors",
        "failures",
        "provenance",
        "cite",
    ]
    assert "Nothing was measured" in page.source


def test_a_page_that_cannot_be_finished_leaves_the_old_one(tmp_path, folder, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        write_report(folder, path)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_what_is_no_benchmark_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no benchmark's results"):
        write_report(tmp_path)


def test_colours_of_text_stand_out_from_what_they_lie_on():
    style = writing._text("page.css")
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", style, re.DOTALL)[:2]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", scheme))
        for ground in ("paper", "raised"):
            for text in ("ink", "soft", "accent", "mark", "bad", "good"):
                assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
            for line in range(6):
                assert _contrast(colours[f"c{line}"], colours[ground]) >= 3, (line, ground)


def _contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
