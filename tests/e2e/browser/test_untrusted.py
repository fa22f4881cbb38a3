"""What a task prints, is named or leaves behind is shown as text: nothing of it runs, and no policy had to step in.

The fixture `page` fails each test in which a script ran that is not the page's, or a policy had to block one.
"""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.browser.page import Page
from tests.e2e.stack import Product
from tests.e2e.submitting import Json, ended, run_manifest, submit

pytestmark = [pytest.mark.docker, pytest.mark.browser]

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
LINK = "javascript:alert(3)"
ESCAPES = r"\033[31mred\033[0m \033]0;title\007 \033]8;;javascript:alert(4)\007link\033]8;;\007 \033[2J\033[9999;9999H"
MARKDOWN = f"""# {IMAGE}

[a link]({LINK}) and [another](JaVaScRiPt:alert(5)) and <{LINK}>
![an image]({LINK}) ![far](http://198.51.100.7/x.png)
{SCRIPT} {IMAGE} <a href="{LINK}">html</a> <iframe srcdoc="{SCRIPT}"></iframe>
<svg onload=alert(6)><style>*{{display:none}}</style>

```html
{SCRIPT}
```
"""
DRAWING = f'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(7)"><script>alert(8)</script>{IMAGE}</svg>'
PAGE = f"<!doctype html>{SCRIPT}{IMAGE}"
JSON = '{"' + SCRIPT.replace('"', "") + '": "' + IMAGE + '", "__proto__": {"x": "' + LINK + '"}}'
HOSTILE = {"name": f"{IMAGE}{SCRIPT}", "labels": {"x": f'"{IMAGE}', "href": LINK}}


def files(contents: dict[str, str]) -> str:
    """A script that writes files in `out`, whatever their names and contents."""
    return "mkdir -p out\n" + "\n".join(
        f"cat > {_quoted(f'out/{name}')} <<'THE_END'\n{text}\nTHE_END" for name, text in contents.items()
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


CONTENTS = {
    f"{IMAGE}.txt".replace("/", "_"): f"{SCRIPT} {IMAGE}",
    "report.md": MARKDOWN,
    "drawing.svg": DRAWING,
    "page.html": PAGE,
    "data.json": JSON,
    "javascript:alert(9).txt": LINK,
}


@pytest.fixture(scope="module")
def hostile(product: Product, docker_engine: None) -> str:
    """A task that tries everything, once it has ended."""
    printed = f"printf '%b\\n' {_quoted(ESCAPES)}; echo {_quoted(IMAGE + SCRIPT)}; echo {_quoted(LINK)} >&2"
    said = f"echo '::progress 50 {IMAGE}'; echo '::output key={IMAGE}'; echo '::output {LINK}=x'"
    script = f"{files(CONTENTS)}\n{printed}\n{said}\nexit 3"
    manifest: Json = run_manifest(script=script, metadata=HOSTILE, lifecycle={"artifact_patterns": ["out/**"]})
    with httpx.Client(base_url=f"{product.url}/api/v1", timeout=60) as api:
        task = submit(api, manifest)
        ended(api, task)
        return task


def foreign(page: Page) -> list[str]:
    """Elements and attributes that no part of the page makes: they would be a task's."""
    return list(
        page.run(
            """
            const foreign = "iframe, object, embed, base, main style, main script, [onerror], [onload], form[action]";
            const found = [...document.querySelectorAll(foreign)].map((one) => one.outerHTML);
            for (const one of document.querySelectorAll("[href], [src]")) {
              const address = one.href?.baseVal ?? one.href ?? one.src;
              if (!/^(https?:|blob:)/.test(address)) found.push(one.outerHTML);
            }
            for (const one of document.images) {
              if (!one.src.startsWith(location.origin) && !/^(blob|data):/.test(one.src)) found.push(one.outerHTML);
            }
            return found;
            """
        )
    )


def test_the_output_of_a_task_is_text(page: Page, hostile: str) -> None:
    page.open_task(hostile)
    page.see(".log", IMAGE)
    page.see(".log", SCRIPT)
    page.see(".log", LINK)
    page.see(".log", "red")
    page.see("h1", IMAGE)
    assert page.browser.title.startswith(IMAGE)
    assert foreign(page) == []
    assert "\x1b" not in page.text


@pytest.mark.parametrize("tab", ["Usage", "Outputs", "Attempts", "Definition"])
def test_what_a_task_says_of_itself_is_text(page: Page, hostile: str, tab: str) -> None:
    page.open_task(hostile)
    page.see("section[aria-label=Outcome]", "exit_nonzero")
    if tab == "Outputs" and page.shown("[role=tab]", tab) is None:
        pytest.fail("the task has an output, and the page does not show it")
    page.click("[role=tab]", tab)
    page.see("[role=tabpanel]:not([hidden])")
    if tab in ("Outputs", "Definition"):
        page.see("[role=tabpanel]:not([hidden])", "onerror")
    assert foreign(page) == []


def test_names_and_labels_in_the_list_are_text(page: Page, hostile: str) -> None:
    page.open("#/tasks")
    page.see(f"tr[data-task='{hostile}'] .name", IMAGE)
    page.see(f"tr[data-task='{hostile}'] .label", LINK)
    assert foreign(page) == []
    page.click(f"tr[data-task='{hostile}'] .label", IMAGE)
    page.see(".chip", IMAGE)
    assert foreign(page) == []


def test_artifacts_and_their_previews_run_nothing(page: Page, hostile: str) -> None:
    page.open_task(hostile, "?tab=artifacts")
    rows = "main .artifacts tbody"
    page.wait("all are listed", lambda: len(page.all(rows)) == len(CONTENTS))
    for number in range(1, len(CONTENTS) + 1):
        page.click(f"{rows}:nth-of-type({number}) button", "Preview")
        page.see(f"{rows}:nth-of-type({number}) .preview")
    page.see_none(".preview", "Loading")
    page.see(".preview", SCRIPT)
    assert foreign(page) == []
    links = page.run("return [...document.querySelectorAll('.preview a')].map((one) => one.getAttribute('href'));")
    assert not [one for one in links if not one.startswith(("http://", "https://"))]
    frames = page.run("return performance.getEntriesByType('resource').map((one) => new URL(one.name).origin);")
    assert set(frames) <= {page.url, "null"}


def test_a_hostile_address_of_the_page_does_nothing(page: Page) -> None:
    for address in (f"#/tasks/{IMAGE}", f"#/{LINK}", f"#/tasks?text={IMAGE}&label={SCRIPT}=x", "#/tasks/..%2F..%2F"):
        page.open(address)
        page.see("h1")
        assert foreign(page) == []


def test_the_policy_would_stop_what_got_through(page: Page) -> None:
    """The last line of defence holds by itself: it is asked here to run something."""
    page.open("#/tasks")
    page.see("h1", "Tasks")
    refused = page.run(
        """
        const tries = {
          html: () => { document.body.innerHTML += args[0]; },
          timer: () => setTimeout("window.ran.push('timer')"),
          handler: () => {
            const one = document.createElement("a");
            one.setAttribute("onclick", "window.ran.push('handler')");
            one.click();
          },
          script: () => { document.createElement("script").src = "http://198.51.100.7/x.js"; },
          worker: () => new Worker("/assets/log-worker.js"),
          policy: () => trustedTypes.createPolicy("another", {}),
        };
        const refused = [];
        for (const [name, attempt] of Object.entries(tries)) {
          try { attempt(); } catch { refused.push(name); }
        }
        return refused;
        """,
        IMAGE,
    )
    assert {"html", "timer", "script", "worker", "policy"} <= set(refused)
    assert page.ran() == []
    page.wait("the policy has reported it", lambda: len(page.violations()) >= 5)
    page.run("window.violations.length = 0;")
