"""Write a manifest in the page, see what is wrong with it, submit it, and follow it to its end."""

from __future__ import annotations

import re

import httpx
import pytest
from selenium.webdriver.common.keys import Keys

from orchestrator import documents
from tests.e2e.browser.manifests import small
from tests.e2e.browser.page import Page
from tests.e2e.submitting import ended, run_manifest, submit

pytestmark = [pytest.mark.docker, pytest.mark.browser]

TALKS = "for n in 1 2 3; do echo line $n; sleep 1; done; echo on stderr >&2"


def task_id_of(page: Page) -> str:
    """The task that the page has gone to."""
    found = page.wait("the page shows a task", lambda: re.search(r"#/tasks/([^?]+)", page.address))
    return found[1]


def total(api: httpx.Client) -> int:
    return int(api.get("/tasks", params={"limit": 1}).json()["total_count"])


def test_a_task_is_written_submitted_and_followed_to_its_end(page: Page, api: httpx.Client) -> None:
    page.open("#/submit")
    page.write(small(TALKS))
    page.see("aside", "Valid")
    page.click("aside button", "Submit")
    task_id = task_id_of(page)
    page.wait("the log is shown while the task runs", lambda: page.state == "running" and "line 1" in page.text)
    page.wait("the task has ended", lambda: page.state == "completed")
    for line in ("line 1", "line 2", "line 3", "on stderr"):
        page.see(".log", line)
    page.see("section[aria-label=Outcome]", "exit_zero")
    phases = [one.text for one in page.all(".timeline .phase")]
    assert phases == ["pending", "staging", "provisioning", "ready", "running", "completing", "completed"]
    assert not [one.text for one in page.all(".timeline li") if "not reached" in one.text]
    assert ended(api, task_id)["state"] == "completed"


def test_a_mistake_is_shown_at_its_line_while_one_types_and_leads_there(page: Page) -> None:
    page.open("#/submit")
    wrong = small("true").replace("profile: basic", "profil: basic").replace("timeout: 5m", "timeout: soon")
    page.write(wrong)
    page.see("aside", "2 mistakes")
    lines = wrong.splitlines()
    expected = {lines.index("  profil: basic") + 1, lines.index("  timeout: soon") + 1}
    assert {int(one.get_attribute("data-line") or 0) for one in page.all(".gutter .mark")} == expected
    page.click(".problems button", "profil")
    line = page.run(
        "const field = document.querySelector('textarea');"
        "return field.value.slice(0, field.selectionStart).split('\\n').length;"
    )
    assert line == min(expected)
    assert page.focused.tag_name == "textarea"
    page.write(small("true"))
    page.see("aside", "Valid")
    page.see_none(".problems button")
    page.see_none(".gutter .mark")


def test_what_is_not_valid_is_not_submitted(page: Page, api: httpx.Client) -> None:
    before = total(api)
    page.open("#/submit")
    page.write("version: '1'\nkind: Tusk\n")
    page.click("aside button", "Submit")
    page.see(".problems button", "kind")
    assert "#/submit" in page.address
    assert total(api) == before


def test_two_clicks_make_one_task(page: Page, api: httpx.Client) -> None:
    page.open("#/submit")
    page.write(small("true", name="Clicked twice"))
    page.see("aside", "Valid")
    page.run(
        "const button = [...document.querySelectorAll('aside button')].find((one) => one.textContent === 'Submit');"
        "button.click(); button.disabled = false; button.click();"
    )
    task_id = task_id_of(page)
    ended(api, task_id)
    named = [one for one in api.get("/tasks").json()["tasks"] if one["name"] == "Clicked twice"]
    assert [one["id"] for one in named] == [task_id]


def test_every_example_of_the_editor_is_valid(page: Page) -> None:
    page.open("#/submit")
    names = [one.text for one in page.all("aside .options button")]
    assert len(names) >= 4
    for name in names:
        page.write("nothing yet")
        page.see_none("aside", "Valid")
        page.click("aside .options button", name)
        page.see("aside", "Valid")


def test_a_task_is_run_again_with_edits(page: Page, api: httpx.Client) -> None:
    first = submit(api, run_manifest(script="echo first; exit 3", metadata={"name": "Again", "id": "edited-first"}))
    ended(api, first)
    page.open_task(first)
    page.see("section[aria-label=Outcome]", "exit_nonzero")
    page.click("main button", "Edit and run again")
    page.see("aside", "Valid")
    manifest = page.see("textarea").get_attribute("value") or ""
    assert "echo first; exit 3" in manifest
    assert "edited-first" not in manifest
    page.write(manifest.replace("exit 3", "exit 0"))
    page.see("aside", "Valid")
    page.press(Keys.CONTROL + Keys.ENTER)
    page.wait("the new task is shown", lambda: "#/tasks/" in page.address)
    second = task_id_of(page)
    assert second != first
    assert ended(api, second)["state"] == "completed"
    page.load(page.browser.back)
    page.see("aside", "Valid")
    assert page.address == f"/#/submit?from={first}"
    assert "exit 3" in (page.see("textarea").get_attribute("value") or ""), "it says whose manifest this is"


def test_what_is_written_for_one_task_is_not_offered_as_another_s_manifest(page: Page, api: httpx.Client) -> None:
    one, other = (submit(api, run_manifest(script=f"echo {name}")) for name in ("one", "other"))
    page.open(f"#/submit?from={one}")
    page.see("aside", "Valid")
    page.write(small("echo changed", name="Changed"))
    page.see("aside", "Valid")
    page.open(f"#/submit?from={other}")
    page.see("aside", "Valid")
    assert "echo other" in (page.see("textarea").get_attribute("value") or "")
    page.open(f"#/submit?from={one}")
    page.see("aside", "Valid")
    assert "echo changed" in (page.see("textarea").get_attribute("value") or "")
    page.open("#/submit?from=unknown")
    page.see("main [role=alert]", "unknown")


def test_the_editor_indents_and_lets_the_keyboard_out(page: Page) -> None:
    page.open("#/submit")
    editor = page.see("textarea")
    page.write("run:")
    page.press(Keys.ENTER, "x", Keys.TAB, "y")
    assert editor.get_attribute("value") == "run:\n  x  y"
    page.press(Keys.SHIFT + Keys.TAB)
    assert editor.get_attribute("value") == "run:\nx  y"
    page.press(Keys.CONTROL + "z")
    assert editor.get_attribute("value") == "run:\n  x  y"
    page.press(Keys.ESCAPE, Keys.TAB)
    assert page.focused.tag_name != "textarea"


def test_what_was_written_is_there_again_after_a_reload(page: Page) -> None:
    page.open("#/submit")
    page.write(small("true", name="A draft"))
    page.see("aside", "Valid")
    page.reload()
    page.see("aside", "Valid")
    assert "A draft" in (page.see("textarea").get_attribute("value") or "")


TRICKY = [
    "", " ", "a", "a: b", "a:b", "- x", "x #y", "#", "null", "~", "yes", "No", "1", "0x1f", "1e3", "1_000", ".5",
    "-.inf", "2026-01-29", "22:22", "<<", "=", "---", "...", "? x", "@x", "`x`", "%x", "&a", "*a", "!t", "[x]",
    "{x}", "'x'", '"x"', "|", ">", "x\ny", "x\n", "x\n\n", "\nx", " x\ny", "x\n y\n", "x \ny", "\tx\n", "x\ty",
    "é\U0001f600", "\u2028", "\u0085\nx", "a\r\nb", "\ufeff", "x:", "x: ", ":x", "\\n", "\x7f",
]  # fmt: skip


def test_every_text_arrives_in_the_editor_as_it_is_in_the_definition(page: Page) -> None:
    page.open("#/submit")
    page.see("aside", "Valid")
    value = {
        "list": TRICKY,
        "map": {f"k{number}": text for number, text in enumerate(TRICKY)},
        "keys": {text: 1 for text in TRICKY if text != "<<"},
        "deep": [[1, [TRICKY[33], {"a": [], "b": {}}]], [], {"x": [{"y": "1\n2\n"}]}],
        "numbers": [0, 1.5, -3, True, False, None],
    }
    text = page.run('return (await import("/assets/yaml.js")).yamlOf(args[0]);', value)
    assert documents.read(text.encode(), "application/yaml").data == value
