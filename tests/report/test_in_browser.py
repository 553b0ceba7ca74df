"""The page in a real browser: nothing on the console, every picture decoded, the sound plays."""

import json
import re
import shutil
import subprocess
import time

import pytest

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--enable-logging=stderr",
    "--window-size=390,844",
]
PROBE = """<script>
async function look() {
  const hrefs = [...document.querySelectorAll("image")].map(node => node.href.baseVal);
  const pictures = await Promise.all(hrefs.map(async href => {
    const image = new Image(); image.src = href; await image.decode(); return [image.naturalWidth, image.naturalHeight];
  }));
  const sounds = await Promise.all([...document.querySelectorAll("audio")].map(async node => {
    await node.play();
    await new Promise(done => node.addEventListener("timeupdate", done, {once: true}));
    node.pause(); return node.duration;
  }));
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  return {pictures, sounds, wide, charts: document.querySelectorAll("figure svg").length};
}
look().then(found => console.log("FOUND" + JSON.stringify(found)), error => console.log("FAILED " + error));
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_pictures_sounds_and_charts_in_headless_chromium(finished, tmp_path):
    page = (finished / "work" / "pair" / "page" / "report.html").read_text(encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0", path.as_uri()]
    with (tmp_path / "log").open("w+") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        deadline = time.monotonic() + 60
        said = ""
        while time.monotonic() < deadline and "FOUND" not in said and "FAILED" not in said:
            time.sleep(0.2)
            said = (tmp_path / "log").read_text(errors="replace")
        process.terminate()
        process.wait(timeout=20)
    console = [line for line in said.splitlines() if "CONSOLE" in line]
    assert len(console) == 1 and "FOUND" in console[0], said[-2000:]
    found = json.loads(re.search(r'FOUND(\{.*\})"', console[0])[1])
    assert found["pictures"] == [[160, 90]] * len(found["pictures"]) and found["pictures"]
    assert len(found["sounds"]) == 4 and all(abs(seconds - 5) < 0.2 for seconds in found["sounds"])
    assert not found["wide"] and found["charts"] > 15
