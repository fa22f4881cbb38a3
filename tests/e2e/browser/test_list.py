"""The list of tasks: what it filters, that it is live, and that keyboard and a phone are enough."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from tests.e2e.browser.page import Page
from tests.e2e.submitting import Json, ended, run_manifest, submit

pytestmark = [pytest.mark.docker, pytest.mark.browser]

PHONE = (360, 740)


@pytest.fixture
def group() -> str:
    """A label's value that only one test's tasks have."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def make(api: httpx.Client, group: str) -> Callable[..., str]:
    """Submit a task of the group."""

    def made(name: str, script: str = "true", **labels: str) -> str:
        metadata: Json = {"name": name, "labels": {"group": group, **labels}}
        return submit(api, run_manifest(script=script, metadata=metadata))

    return made


def names(page: Page) -> list[str]:
    return [one.text for one in page.all(".tasks .name")]


def test_the_list_filters_by_state_label_and_text(
    page: Page, api: httpx.Client, group: str, make: Callable[..., str]
) -> None:
    for name, script in (("Alpha", "true"), ("Beta", "exit 1"), ("Gamma", "true")):
        ended(api, make(name, script, kind="good" if script == "true" else "bad"))
    page.open("#/tasks")
    field = page.see("input[placeholder^=Label]")
    field.send_keys(f"group={group}", Keys.ENTER)
    page.wait("the newest task is first", lambda: names(page) == ["Gamma", "Beta", "Alpha"])
    page.click(".chip", "Failed")
    page.wait("failed tasks only", lambda: names(page) == ["Beta"])
    page.click(".chip", "Failed")
    page.wait("all again", lambda: len(names(page)) == 3)
    page.see("input[type=search]").send_keys("ALPH")
    page.wait("named like that", lambda: names(page) == ["Alpha"])
    page.see("main", "1 of 3 tasks")
    page.reload()
    page.wait("the address holds the filter", lambda: names(page) == ["Alpha"])
    page.see("input[type=search]").send_keys("nonsense")
    page.see(".empty", "No task matches")
    page.click("button", "Clear the filters")
    page.wait("more tasks than these", lambda: len(names(page)) >= 3)
    page.click(".label", "kind=bad")
    page.wait("a click on a label filters by it", lambda: set(names(page)) == {"Beta"})


def test_the_list_is_live_and_keeps_focus_while_it_changes(
    page: Page, api: httpx.Client, group: str, make: Callable[..., str]
) -> None:
    first = make("Long", 'echo "::progress 40 nearly half"; sleep 600')
    page.open(f"#/tasks?label=group%3D{group}")
    row = f"tr[data-task='{first}']"
    page.see(row, "running")
    page.see(row, "nearly half")
    page.see(row, "40 %")
    page.run("document.querySelector(args[0]).focus();", f"{row} .name")
    second = make("Short")
    page.wait("a new task is on top by itself", lambda: names(page) == ["Short", "Long"])
    page.see(f"tr[data-task='{second}']", "completed")
    assert page.focused.text == "Long"
    api.delete(f"/tasks/{first}", params={"force": "true"})
    page.see(row, "cancelled")
    assert page.focused.text == "Long"


@pytest.fixture
def drained(api: httpx.Client) -> Iterator[None]:
    """No worker takes a task meanwhile: tasks wait and cost nothing."""
    names = [one["name"] for one in api.get("/workers").json()["workers"]]
    for name in names:
        api.post(f"/workers/{name}/drain")
    yield
    for name in names:
        api.post(f"/workers/{name}/resume")


@pytest.mark.usefixtures("drained")
def test_more_tasks_are_loaded_when_asked_for(
    page: Page, api: httpx.Client, group: str, make: Callable[..., str]
) -> None:
    tasks = [make(f"Waits {number:03}") for number in range(105)]
    page.open(f"#/tasks?label=group%3D{group}")
    page.wait("the newest hundred", lambda: len(names(page)) == 100)
    page.see("main", "the newest 100 of 105 tasks")
    page.click("button", "Show more")
    page.wait("all of them", lambda: len(names(page)) == 105)
    assert names(page)[-1] == "Waits 000"
    assert page.shown("button", "Show more") is None
    for task in tasks:
        assert api.delete(f"/tasks/{task}").json()["new_state"] == "cancelled"
    page.wait("the newest are seen to end", lambda: page.shown(".tasks tr:first-child .state", "cancelled"))


def test_the_keyboard_is_enough(page: Page, api: httpx.Client, group: str, make: Callable[..., str]) -> None:
    for name in ("One", "Two", "Three"):
        ended(api, make(name))
    page.open("#/fleet")
    page.see("h1", "Fleet")
    page.press("g", "t")
    page.see("h1", "Tasks")
    page.press("/")
    assert page.focused.get_attribute("type") == "search"
    page.press("T", Keys.ESCAPE)
    page.open(f"#/tasks?label=group%3D{group}")
    page.wait("three tasks", lambda: names(page) == ["Three", "Two", "One"])
    page.press("j", "j", "j", "j")
    assert page.focused.text == "One"
    page.press("k")
    assert page.focused.text == "Two"
    page.press(Keys.ENTER)
    page.see("h1", "Two")
    page.see("[role=tab][aria-selected=true]", "Log")
    page.run("document.querySelector('[role=tab][aria-selected=true]').focus();")
    page.press(Keys.ARROW_RIGHT)
    page.see("[role=tab][aria-selected=true]", "Usage")
    page.press(Keys.END)
    page.see("[role=tab][aria-selected=true]", "Definition")
    page.see(".source", "name: Two")
    page.press("?")
    page.see("dialog", "Keys")
    page.press(Keys.ESCAPE)
    page.see_none("dialog")
    for key, heading in (("q", "Queue"), ("s", "Submit a task"), ("f", "Fleet")):
        page.press("g", key)
        page.see("h1", heading)
    page.load(page.browser.back)
    page.see("h1", "Submit a task")


def test_coming_back_from_a_task_finds_the_list_as_it_was(
    page: Page, api: httpx.Client, group: str, make: Callable[..., str]
) -> None:
    for number in range(12):
        make(f"Task {number:02}")
    page.resize(PHONE[0], PHONE[1])
    page.open(f"#/tasks?label=group%3D{group}")
    page.wait("twelve tasks", lambda: len(names(page)) == 12)
    page.run("[...document.querySelectorAll('.tasks .name')].at(-2).scrollIntoView();")
    before = page.run("return scrollY;")
    assert before > 0
    page.click(".tasks .name", "Task 01")
    page.see("h1", "Task 01")
    page.load(page.browser.back)
    page.wait("the list is back", lambda: len(names(page)) == 12)
    page.wait("at its place", lambda: abs(page.run("return scrollY;") - before) < 40)
    assert page.focused.text == "Task 01"


@pytest.mark.parametrize("place", ["#/tasks", "#/submit", "#/fleet", "#/queue", "a task"])
def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, api: httpx.Client, place: str) -> None:
    script = f"echo {'x' * 500}; echo '::output url={'y' * 300}'"
    long = {"name": "L" * 190, "labels": {"a" * 60: "b" * 200}}
    task = submit(api, run_manifest(script=script, metadata=long))
    ended(api, task)
    page.resize(*PHONE)
    page.open(place if place.startswith("#") else f"#/tasks/{task}")
    page.see("h1")
    tabs = [one.text for one in page.all("[role=tab]") if one.is_displayed()]
    for tab in tabs or [None]:
        if tab:
            page.click("[role=tab]", tab.split()[0])
        page.wait("the width fits", lambda: page.run("return document.documentElement.scrollWidth <= innerWidth;"))
        wide = page.run(
            """
            const isScrolled = (one) => one.closest(".scroll-x, .log, .tabs, .source, .editor, .preview") !== null;
            return [...document.querySelectorAll("main *, header *")]
              .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !isScrolled(one))
              .map((one) => one.outerHTML.slice(0, 100));
            """
        )
        assert wide == [], tab


def test_the_theme_is_the_systems_until_one_is_chosen(page: Page) -> None:
    def background() -> str:
        return str(page.run("return getComputedStyle(document.body).backgroundColor;"))

    def system(scheme: str) -> None:
        page.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    page.open("#/tasks")
    page.see("h1", "Tasks")
    system("light")
    light = background()
    system("dark")
    dark = background()
    assert light != dark
    page.click("select[aria-label=Theme] option", "Light")
    assert background() == light
    page.reload()
    page.see("h1", "Tasks")
    assert background() == light
    page.run("localStorage.clear();")
