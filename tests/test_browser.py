"""The demo as its visitor meets it: in Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from urllib.parse import urlparse

import av
import pytest
from media import serve
from playwright.sync_api import Browser, Page, expect, sync_playwright

import lgcvd
from lgcvd import video
from lgcvd.examples import SOURCE_VARIABLE

pytestmark = [pytest.mark.app, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
PATIENCE = 240
"""Seconds that anything may take on a busy machine; nothing waits longer than it must."""

WATCHED_START = """
import json, os, runpy, sys
log = open(sys.argv[1], "a", buffering=1)
def watch(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        log.write(f"{args[1][0]}\\n")
    elif event == "socket.getaddrinfo" and args[0]:
        log.write(f"{args[0]}\\n")
sys.addaudithook(watch)
from lgcvd import examples
examples.HANDS = [examples.RemoteClip(*clip) for clip in json.loads(os.environ["HANDS"])]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script and notes every host that its process connects to or looks up; the clips of hands are smaller ones."""

THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        verdict = pytest.fail if os.environ.get("LGCVD_REQUIRE_BROWSER") == "1" else pytest.skip
        verdict(f"no Chromium on this machine ({', '.join(names)}): install the system's chromium package.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Server:
    """The demo in a process of its own."""

    def __init__(self, models: list[Path], folder: Path, settings: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url, self.hosts, self.output = f"http://127.0.0.1:{port}/", folder / "hosts.txt", folder / "output.txt"
        command = [sys.executable, "-c", WATCHED_START, self.hosts, "demo_app.py", "--port", str(port)]
        quiet = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}  # opens no browser
        quiet |= {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder / "cache")} | settings
        offered = [argument for model in models for argument in ("--model", model)]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--share", "no", *offered], cwd=ROOT, env=quiet, stdout=output, stderr=output
            )
        end = time.monotonic() + PATIENCE
        while self.url not in self.output.read_text():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < end, "the demo did not start in time"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def other_side() -> Iterator[tuple[str, list, list[str]]]:
    """What takes the place of GitHub: its address, what it answers, what it was asked for."""
    with serve() as side:
        yield side


@pytest.fixture(scope="module")
def server(
    browser: Browser, clip: Path, other_side: tuple[str, list, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The demo with tiny models of random weights, the first one chosen, beside the shipped ones; not started without a
    browser."""
    folder = tmp_path_factory.mktemp("demo")
    tiny = lgcvd.PRESETS["tiny"].model
    lgcvd.save(lgcvd.LGCVD(tiny), folder / "tiny")
    lgcvd.save(lgcvd.LGCVD(replace(tiny, channels=3, dim=24)), folder / "grasping", lgcvd.About(data="robot_hands"))
    episode = clip.read_bytes()
    hands = [(f"hands-{i}", f"{i}.mp4", len(episode), sha256(episode).hexdigest()) for i in (1, 2)]
    settings = {"HANDS": json.dumps(hands), SOURCE_VARIABLE: other_side[0]}
    server = Server([folder / "tiny", folder / "grasping"], folder, settings)
    assert list(folder.glob("lgcvd-*"))
    yield server
    server.process.terminate()
    server.process.wait(PATIENCE)
    assert not list(folder.glob("lgcvd-*")), "uploads and results go with the server"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames."""
    path = tmp_path_factory.mktemp("clips") / "digits.mp4"
    video.write_video(path, video.from_uint8(lgcvd.MovingDigits("test", frames=12)[0]), 10)
    return path


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A fresh visit. Every request of it, and every host the server spoke to, must be of this machine."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    addresses, errors = [], []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(server.url)
    expect(page.locator("#note")).to_contain_text("The model sees them")
    yield page
    page.close()
    away = [url for url in addresses if urlparse(url).scheme not in ("data", "blob")]
    assert {urlparse(url).hostname for url in away} == {"127.0.0.1"}
    hosts = set(server.hosts.read_text().split())
    assert hosts, "the server asks its own page whether it is up, so the watch must have seen that"
    assert hosts <= THIS_MACHINE
    assert not errors


def upload(page: Page, path: Path) -> None:
    page.set_input_files("input[type=file]", path)


def unfold(page: Page, title: str) -> None:
    """Open a folded part. What is typed while it unfolds is shown but does not reach the app, and nothing tells when it
    will; a person is slower."""
    page.get_by_text(title).click()
    page.wait_for_timeout(2000)


def set_number(page: Page, label: str, value: int) -> None:
    box = page.get_by_label(f"number input for {label}")
    box.fill(str(value))
    box.press("Tab")


def test_an_uploaded_clip_becomes_a_film_that_plays_and_downloads(page, clip, tmp_path):
    upload(page, clip)
    expect(page.locator("#note")).to_contain_text("12 frames, 10 a second")
    set_number(page, "New frames", 14)
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("14 new frames in")
    film = page.locator("#film video")
    expect(film).to_be_visible()
    page.wait_for_function("document.querySelector('#film video').currentTime > 0.2")
    before = film.evaluate("film => film.currentTime")
    page.wait_for_function(f"document.querySelector('#film video').currentTime != {before}")
    assert film.evaluate("film => [film.videoWidth > 0, film.paused, film.duration]") == [True, False, 1.6]
    expect(page.locator("#strip img")).to_be_visible()
    expect(page.locator("#curves canvas, #curves svg.marks")).to_have_count(2)
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "film.mp4")
    with av.open(tmp_path / "film.mp4") as file:
        assert sum(1 for _ in file.decode(video=0)) == 2 + 14


def test_a_bad_upload_is_told_on_the_page_and_the_next_prediction_works(page, clip, tmp_path):
    (tmp_path / "text.mp4").write_text("not a film")
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[:400])
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name, words in (("text.mp4", "cannot be read"), ("half.mp4", "half.mp4"), ("empty.mp4", "is empty")):
        upload(page, tmp_path / name)
        expect(page.locator("#note .error")).to_contain_text(words)
        page.click("#predict")
        expect(page.locator("#status .error")).to_contain_text("see what is said of the clip")  # not a second time
        expect(page.locator("#predict")).to_be_enabled()
        page.get_by_label("Clear").click()
        expect(page.locator("#note .error")).to_have_count(0)
    set_number(page, "New frames", 6)
    page.click("#predict")  # nothing is uploaded now: the first example
    expect(page.locator("#status")).to_contain_text("6 new frames in")
    expect(page.locator("#film video")).to_be_visible()


def test_stop_ends_a_long_prediction_and_keeps_its_film(page):
    set_number(page, "New frames", 120)
    unfold(page, "Model, sampler, steps and seed")
    set_number(page, "Steps a window", 100)
    page.locator("#examples button").nth(3).click()
    page.click("#predict")
    expect(page.locator("#predict")).to_be_disabled()
    expect(page.locator("#status")).to_contain_text("Window 1 of 20")
    page.click("#stop")
    expect(page.locator("#status")).to_contain_text("Stopped in window")
    film = page.locator("#film video")
    expect(film).to_be_visible()
    answer = page.request.get(film.evaluate("film => film.currentSrc || film.src"))
    with av.open(BytesIO(answer.body())) as file:
        assert sum(1 for _ in file.decode(video=0)) > 2
    page.wait_for_function("document.querySelector('#film video').videoWidth > 0")
    expect(page.locator("#predict")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()


def test_another_task_shows_its_own_settings_and_makes_its_film(page):
    unfold(page, "Advanced: futures, memory, guidance")
    page.get_by_label("What to do").click()
    page.get_by_role("option", name="Fill in missing frames").click()
    expect(page.get_by_label("Missing frames, from 1")).to_be_visible()
    set_number(page, "Frames of the clip", 8)
    set_number(page, "Futures, made at once", 2)
    expect(page.locator("#predict")).to_have_text("Fill in")
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("2 new frames in each of 2 futures")
    expect(page.locator("#film video")).to_be_visible()
    expect(page.locator("#curves canvas, #curves svg.marks")).to_have_count(2)


def test_real_hands_are_fetched_only_when_asked_for(page, clip, other_side):
    _, answers, asked = other_side
    expect(page.locator("#hands")).to_have_count(0)
    unfold(page, "Model, sampler, steps and seed")
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name="grasping").click()
    expect(page.locator("#or")).to_contain_text("simulated pushes")
    expect(page.locator("#note")).to_contain_text("in colour")
    assert not asked
    answers.append((clip.read_bytes()[:-1], None))
    page.click("#hands")
    expect(page.locator("#fetching .error")).to_contain_text("hands-1 is not that clip")
    set_number(page, "New frames", 6)
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("6 new frames in")
    answers.append((clip.read_bytes(), None))
    page.click("#hands")
    expect(page.locator("#examples button.thumbnail-item")).to_have_count(8)
    expect(page.locator("#note")).to_contain_text("12 frames, 10 a second")
    expect(page.locator("#fetching .error")).to_have_count(0)
    assert asked == ["/1.mp4", "/1.mp4", "/2.mp4"]
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("6 new frames in")


def test_a_film_says_that_it_was_made_with_earlier_settings(page):
    result, frames = page.locator("#result"), page.get_by_label("number input for New frames")
    set_number(page, "New frames", 6)
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("6 new frames in")
    expect(result).not_to_have_class(re.compile("old"))
    frames.fill("")
    frames.press("Tab")
    expect(result).to_have_class(re.compile("old"))
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("1 new frame in")
    expect(result).not_to_have_class(re.compile("old"))


def test_no_menu_stays_open_behind_the_keyboard(page):
    unfold(page, "Model, sampler, steps and seed")
    page.get_by_label("Sampler").click()
    menu = page.get_by_role("option", name="ddpm")
    expect(menu).to_be_visible()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(menu).not_to_be_visible()


def test_the_page_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    button = page.locator("#predict").bounding_box()
    assert button["y"] + button["height"] <= 844, "it is in reach without scrolling"
    set_number(page, "New frames", 6)
    page.click("#predict")
    expect(page.locator("#status")).to_contain_text("6 new frames in")
    expect(page.locator("#film video")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
