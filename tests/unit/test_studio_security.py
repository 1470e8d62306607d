"""What the studio refuses: foreign hosts and origins, missing tokens, what is too large, and what names a file."""

import base64
import hashlib
import io
import json
import re
import socket
import struct
import zlib
from dataclasses import fields
from typing import get_type_hints

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the studio's packages are not installed")
from starlette.testclient import TestClient

from counterpoint.baselines import BASELINES
from counterpoint.errors import InputError
from counterpoint.methods import METHODS
from counterpoint.studio.app import studio_app
from counterpoint.studio.questions import FILE_READERS, Cell
from counterpoint.studio.security import POLICY
from counterpoint.studio.serving import other_addresses
from counterpoint.studio.settings import Limits, Settings
from counterpoint.studio.studio import Studio
from counterpoint.studio.uploads import name_of

ADDRESS = "http://127.0.0.1:8000"
OWN = {"Origin": ADDRESS}
CELL = {
    "kind": "cell",
    "photo": "sample-chelsea",
    "model": "shapes_resnet",
    "baseline": "black",
    "method": "gradient",
}


def opened(address=ADDRESS, **settings):
    """A studio whose worker never starts: what is asked waits."""
    studio = Studio(Settings(**{"models": ("shapes_resnet",), **settings}))
    return studio, TestClient(
        studio_app(studio), base_url=address, follow_redirects=False, raise_server_exceptions=False
    )


@pytest.fixture(scope="module")
def client():
    studio, client = opened()
    yield client
    studio.close()


def picture(size=(40, 30), kind="PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(stream, kind, **options)
    return stream.getvalue()


def sent(client, content, name="cat.png", headers=OWN):
    return client.post("/api/photos", files={"photo": (name, content, "image/png")}, headers=headers)


def is_refused(response, status, word) -> None:
    assert response.status_code == status, response.text
    words = response.json()["error"]
    assert word in words
    assert words.endswith(".")


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8000.evil.example", "[::1]:81", ""]
)
def test_another_host_name_is_refused_on_every_route(client, host):
    for path in ("/", "/api/photos", "/static/studio.css", "/photos/sample-chelsea.png", "/nowhere"):
        is_refused(client.get(path, headers={"Host": host}), 403, "host name")


def is_a_page_alone(response, status, word) -> None:
    """A page that needs nothing else, and whose policy allows its own style sheet only, by its hash."""
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert word in response.text
    style = re.search("<style>(.*?)</style>", response.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = response.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert not re.search(r"<script|<link|\sstyle=|<img", response.text)


def test_people_at_another_host_name_read_why_and_where_to_go(client):
    page = client.get("/", headers={"Host": "evil.example:8000", "Accept": "text/html"})
    is_a_page_alone(page, 403, "host name")
    assert 'href="http://127.0.0.1:8000/"' in page.text
    api = client.get("/api/photos", headers={"Host": "evil.example:8000", "Accept": "text/html"})
    is_refused(api, 403, "host name")


def test_people_without_the_token_read_where_it_is():
    studio, client = opened("http://192.168.7.7:8000", host="192.168.7.7", token="secret-secret")
    page = client.get("/explain", headers={"Accept": "text/html"})
    is_a_page_alone(page, 403, "token")
    assert "secret-secret" not in page.text
    assert "terminal" in page.text
    studio.close()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST:8000"])
def test_this_machine_is_known_by_its_three_names(client, host):
    assert client.get("/api/photos", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": ADDRESS + ".evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {**OWN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_what_another_site_could_send_is_refused(client, headers):
    for path in ("/api/jobs", "/api/photos", "/api/jobs/x/cancel", "/parts/ask"):
        is_refused(client.post(path, json=CELL, headers=headers), 403, "another site")


@pytest.mark.parametrize("headers", [OWN, {"Sec-Fetch-Site": "same-origin"}])
def test_the_studios_own_pages_may_post(client, headers):
    assert client.post("/api/jobs", json=CELL, headers=headers).status_code == 202


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(client, method):
    assert client.request(method, "/api/photos", headers=OWN).status_code == 405


@pytest.mark.parametrize(
    "path", ["/api/photos", "/api/nothing", "/static/studio.css", "/photos/sample-none.png"]
)
def test_every_answer_keeps_to_itself(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
    assert "access-control-allow-origin" not in headers


def test_another_host_needs_a_token():
    with pytest.raises(InputError, match="token"):
        Settings(host="0.0.0.0")


def test_a_studio_that_is_open_everywhere_names_the_addresses_that_others_reach_it_at(monkeypatch):
    found = [(socket.AF_INET, 0, 0, "", (each, 0)) for each in ("127.0.1.1", "192.168.7.7", "192.168.7.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    addresses = other_addresses(Settings(host="0.0.0.0", token="secret"))
    assert addresses.count("http://192.168.7.7:8000/?token=secret") == 1
    assert not any("//127." in address for address in addresses)
    assert other_addresses(Settings()) == []
    assert other_addresses(Settings(host="192.168.7.7", token="secret")) == []


@pytest.mark.parametrize("host", ["192.168.7.7", "0.0.0.0"])
def test_the_token_opens_the_studio_once_and_then_lives_in_a_cookie(host):
    address = "http://192.168.7.7:8000"
    studio, client = opened(address, host=host, token="secret-secret")
    try:
        for path in ("/", "/api/photos", "/static/studio.css", "/?token=wrong", "/?token="):
            is_refused(client.get(path), 403, "token")
        is_refused(
            client.post("/api/jobs?token=secret-secret", json=CELL, headers={"Origin": address}), 403, "token"
        )
        welcome = client.get("/explain?photo=sample-chelsea&token=secret-secret")
        assert welcome.status_code == 303
        assert welcome.headers["location"] == "/explain?photo=sample-chelsea"
        cookie = welcome.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.get("/api/photos").status_code == 200
        assert client.post("/api/jobs", json=CELL, headers={"Origin": address}).status_code == 202
        is_refused(
            client.post("/api/jobs", json=CELL, headers={"Origin": "http://evil.example"}),
            403,
            "another site",
        )
        client.cookies.clear()
        client.cookies.set("counterpoint-studio-8000", "guess")
        is_refused(client.get("/api/photos"), 403, "token")
    finally:
        studio.close()


def test_the_welcome_sends_nobody_to_another_host():
    studio, client = opened("http://192.168.7.7:8000", host="192.168.7.7", token="secret")
    response = client.get("http://192.168.7.7:8000//evil.example/?token=secret")
    assert response.headers["location"] == "/evil.example/"
    studio.close()


def test_names_that_somebody_else_may_point_at_an_open_studio_are_refused():
    studio, client = opened("http://192.168.7.7:8000", host="0.0.0.0", token="secret")
    is_refused(client.get("/?token=secret", headers={"Host": "evil.example:8000"}), 403, "host name")
    studio.close()


def test_a_request_that_is_announced_or_turns_out_too_large_is_refused():
    studio, client = opened(limits=Limits(body_bytes=1000, upload_bytes=5000))
    is_refused(client.post("/api/jobs", content=b"x" * 1001, headers=OWN), 413, "too large")
    json_type = {**OWN, "Content-Type": "application/json"}
    assert (
        client.post("/api/jobs", content=(b"x" * 100 for _ in range(9)), headers=json_type).status_code == 400
    )
    is_refused(
        client.post("/api/jobs", content=(b"x" * 100 for _ in range(11)), headers=json_type), 413, "too large"
    )
    is_refused(sent(client, b"x" * 100_000), 413, "too large")
    is_refused(sent(client, b"x" * 5001), 413, "too large")
    is_refused(
        client.post("/api/jobs", content=b"", headers={**OWN, "Content-Length": "-1"}), 413, "too large"
    )
    studio.close()


def test_uploads_are_known_by_their_content_and_kept_under_its_hash(client):
    first = sent(client, picture(), name="../../etc/passwd")
    assert first.status_code == 201
    again = sent(client, picture(), name="other.txt")
    assert again.json() == first.json()
    assert first.json()["id"].startswith("upload-")
    assert first.json()["title"] == "passwd"
    assert ".." not in first.text
    thumbnail = client.get(f"/photos/{first.json()['id']}.png")
    assert Image.open(io.BytesIO(thumbnail.content)).size == (40, 30)


@pytest.mark.parametrize(
    ("sent_as", "shown"),
    [
        ("my <cat>.png", "my <cat>.png"),
        ("C:\\photos\\Katze schön.jpg", "Katze schön.jpg"),
        ("../../etc/passwd", "passwd"),
        ("sample:coffee", "sample_coffee"),
        ("-rf.png", "rf.png"),
        (".hidden", "hidden"),
        ("a\nb\0\u202ec.png", "a_b__c.png"),
        ("x" * 400 + ".jpeg", "x" * 80),
        ("", "photograph.png"),
        ("..", "photograph.png"),
    ],
)
def test_a_name_is_kept_to_be_shown_and_means_nothing_elsewhere(sent_as, shown):
    assert name_of(sent_as) == shown


def test_code_names_a_photograph_as_it_was_called_and_the_disk_does_not():
    studio, client = opened()
    id = sent(client, picture(), name="my cat.png").json()["id"]
    assert studio._kept(id).path.name == f"{id}.png"
    code = studio.code(Cell(**{**CELL, "photo": id}))
    assert code["command"].startswith("counterpoint explain 'my cat.png' ")
    assert 'classifier.preprocess(["my cat.png"])' in code["python"]
    studio.close()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "GIF", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_what_a_folder_may_hold_can_be_sent_too(client, kind):
    if kind.upper() not in Image.SAVE:
        pytest.skip(f"this build of Pillow writes no {kind}")
    assert sent(client, picture(kind=kind)).status_code == 201


def test_what_a_photograph_carries_beside_its_pixels_is_not_kept():
    studio, client = opened()
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    exif[0x0112] = 6  # turned by a quarter
    id = sent(client, picture(kind="JPEG", exif=exif.tobytes())).json()["id"]
    kept = studio._kept(id).path
    assert b"where I live" not in kept.read_bytes()
    with Image.open(kept) as picture_kept:
        assert picture_kept.size == (30, 40)
    assert [file.name for file in kept.parent.iterdir()] == [f"{id}.png"]
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    studio.close()


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 415, "must be PNG"),
        (b"hello", 415, "must be PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "must be PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "must be PNG"),
        (b"GIF89a" + b"\0" * 99, 422, "the photograph"),
        (picture()[:200], 422, "damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, 422, "damaged"),
    ],
)
def test_what_is_no_photograph_is_refused(client, content, status, word):
    response = sent(client, content)
    is_refused(response, status, word)
    assert "/tmp" not in response.text


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    studio, client = opened(limits=Limits(upload_pixels=1000))
    is_refused(sent(client, picture(size=(40, 30))), 413, "too large to decode")
    assert sent(client, picture(size=(40, 25))).status_code == 201
    studio.close()


def test_a_picture_that_pillow_would_not_open_is_refused_with_our_own_limit(client):
    # 30,000 x 30,000 pixels, more than Pillow opens, and none of them there.
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    response = sent(client, content)
    is_refused(response, 413, "at most 50,000,000 pixels")
    assert "Pillow" not in response.text


def test_there_is_an_end_to_how_many_photographs_are_kept():
    studio, client = opened(limits=Limits(uploads=2))
    for width in (10, 11):
        assert sent(client, picture(size=(width, 10))).status_code == 201
    is_refused(sent(client, picture(size=(12, 10))), 413, "2 photographs")
    assert sent(client, picture(size=(11, 10))).status_code == 201
    studio.close()


def test_there_is_an_end_to_how_much_room_photographs_take():
    studio, client = opened(limits=Limits(uploads_bytes=10))
    is_refused(sent(client, picture()), 413, "room")
    assert studio.photos() == [photo for photo in studio.photos() if photo.source != "upload"]
    studio.close()


def test_an_upload_is_a_form_with_one_file(client):
    is_refused(
        client.post("/api/photos", content=picture(), headers={**OWN, "Content-Type": "image/png"}),
        415,
        "multipart",
    )
    is_refused(client.post("/api/photos", files={"note": (None, "text")}, headers=OWN), 422, "no photograph")
    files = [("photo", ("a", picture())), ("photo", ("b", picture()))]
    assert client.post("/api/photos", files=files, headers=OWN).status_code == 400


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"photo": "sample-nobody"}, 404, "no photograph"),
        ({"photo": "../../etc/passwd"}, 422, "photo"),
        ({"photo": "/etc/passwd"}, 422, "photo"),
        ({"photo": "sample-chelsea\n"}, 422, "photo"),
        ({"photo": "upload-" + "0" * 32}, 404, "not here any more"),
        ({"model": "resnet50"}, 404, "no model"),
        ({"model": "os:system"}, 404, "no model"),
        ({"baseline": "learned:file=/etc/passwd"}, 422, "names a file"),
        ({"baseline": "learned:file=x.safetensors"}, 422, "names a file"),
        ({"baseline": "learned_per_image:file=x"}, 422, "names a file"),
        ({"baseline": "blur:sigma=../x"}, 422, "form"),
        ({"baseline": "b" * 500}, 422, "baseline"),
        ({"method": "gradient;rm"}, 422, "method"),
        ({"method": "noise:baseline=learned(x)"}, 422, "names a file"),
        ({"method": "m" * 300}, 422, "method"),
        ({"layer": "../x"}, 422, "layer"),
        ({"score": "rank"}, 422, "score"),
        ({"target": "tabby"}, 422, "the index of a class"),
        ({"target": 10**9}, 422, "the index of a class"),
        ({"target": -1}, 422, "target"),
        ({"kind": "shell"}, 422, "kind"),
        ({"path": "/etc/passwd"}, 422, "path"),
    ],
)
def test_a_question_that_is_not_understood_is_refused_in_words(client, change, status, word):
    is_refused(client.post("/api/jobs", json={**CELL, **change}, headers=OWN), status, word)


def test_every_parameter_that_is_a_free_text_belongs_to_a_known_reader_of_files():
    made = {**BASELINES, **METHODS}.items()
    found = [
        name
        for name, make in made
        if isinstance(make, type)
        and str in (get_type_hints(make)[field.name] for field in fields(make) if field.init)
    ]
    names_layers = {"fei"}
    assert sorted(set(found) - names_layers) == sorted(FILE_READERS)


def test_a_baseline_with_a_file_can_be_asked_for_if_the_command_line_gave_it():
    studio, client = opened(baselines=("learned:file=/srv/mine.safetensors",))
    given = {**CELL, "baseline": "learned:file=/srv/mine.safetensors"}
    assert client.post("/api/jobs", json=given, headers=OWN).status_code == 202
    other = {**CELL, "baseline": "learned:file=/srv/other.safetensors"}
    is_refused(client.post("/api/jobs", json=other, headers=OWN), 422, "names a file")
    studio.close()


def test_a_body_that_is_no_json_is_refused(client):
    for body in (b"{", b"", b"\xff", b"[" * 100_000):
        response = client.post("/api/jobs", content=body, headers={**OWN, "Content-Type": "application/json"})
        assert response.status_code in (400, 422)
        assert response.json()["error"]
    is_refused(
        client.post("/api/jobs", content=json.dumps(CELL), headers={**OWN, "Content-Type": "text/plain"}),
        415,
        "json",
    )


@pytest.mark.parametrize(
    "path",
    [
        "/answers/nothing/answer.json",
        "/answers/..%2f..%2fetc/passwd",
        "/answers/example/..%2fanswer.json",
        "/answers/example/answer.json.bak",
        "/photos/..%2f..%2fetc%2fpasswd.png",
        "/photos/folder-%2e%2e.png",
        "/static/..%2f..%2fstudio.py",
        "/static/../studio.py",
        "/save/nothing.zip",
        "/report/nothing",
        "/api/jobs/nothing",
        "/api/answers/nothing",
        "/no/such/page",
    ],
)
def test_what_is_not_offered_is_not_found(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert response.json()["error"].endswith(".")


def test_results_are_asked_for_only_where_some_were_given(client):
    is_refused(client.post("/api/jobs", json={"kind": "results"}, headers=OWN), 404, "--results")


def test_a_full_queue_says_so():
    studio, client = opened(limits=Limits(queue=3))
    for sigma in (1, 2, 3):
        asked = client.post("/api/jobs", json={**CELL, "baseline": f"blur:sigma={sigma}"}, headers=OWN)
        assert asked.status_code == 202
    response = client.post("/api/jobs", json=CELL, headers=OWN)
    is_refused(response, 503, "busy")
    assert response.headers["retry-after"]
    shared = client.post("/api/jobs", json={**CELL, "baseline": "blur:sigma=2"}, headers=OWN)
    assert shared.status_code == 202
    studio.close()
