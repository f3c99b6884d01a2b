"""A scene as one HTML page that moves: slider, play button and keys, nothing from the network."""

import html
import json

from convjax.draw import svg
from convjax.draw.scene import Scene

_STYLE = """
:root{color-scheme:light dark}
body{margin:0;padding:12px;background:#fff;color:#1b222a;font:15px/1.45 %FONT%}
main{max-width:1100px;margin:0 auto}
svg{display:block;max-width:100%;height:auto;margin:0 auto}
svg [data-k]{cursor:pointer}
.lit{stroke:#d55e00!important;stroke-width:4!important;stroke-dasharray:none!important}
.bar{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:10px 0}
.bar input[type=range]{flex:1 1 120px;min-width:100px;min-height:32px}
button{font:inherit;min-height:36px;min-width:44px;padding:4px 12px;border-radius:6px;
border:1px solid #56616d;background:#eef2f5;color:#1b222a;cursor:pointer}
:focus-visible{outline:3px solid #0072b2;outline-offset:2px}
output{font-variant-numeric:tabular-nums}
#words{min-height:3em;margin:6px 0;overflow-wrap:anywhere}
p.help{color:#56616d;font-size:13px;margin:6px 0}
@media screen and (prefers-color-scheme:dark){
body{background:#14181d;color:#e9eef3}button{background:#28313a;color:#e9eef3;border-color:#a3afbb}
p.help{color:#a3afbb}.lit{stroke:#ff8a3d!important}:focus-visible{outline-color:#5cb3ea}}
"""

_SCRIPT = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const layer = document.getElementById('layer'), slider = document.getElementById('step');
const words = document.getElementById('words'), count = document.getElementById('count');
const play = document.getElementById('play'), picture = document.querySelector('svg');
let step = data.still, timer = null;
function clear() { for (const e of picture.querySelectorAll('.lit')) e.classList.remove('lit'); }
function show(number) {
  step = (number + data.frames.length) % data.frames.length;
  layer.innerHTML = data.frames[step].svg;
  words.textContent = data.frames[step].words;
  slider.value = step;
  slider.setAttribute('aria-valuetext', data.frames[step].words);
  count.textContent = `${step + 1} / ${data.frames.length}`;
  clear();
}
function stop() {
  clearInterval(timer); timer = null;
  play.textContent = 'Play'; play.setAttribute('aria-pressed', 'false');
}
function start() {
  if (timer) return stop();
  timer = setInterval(() => show(step + 1), data.seconds * 1000);
  play.textContent = 'Pause'; play.setAttribute('aria-pressed', 'true');
}
function light(tensor, index) {
  const other = tensor === 0 ? data.last : 0;
  const found = tensor === 0
    ? data.reads.flatMap((read, o) => read.includes(index) ? [o] : [])
    : data.reads[index];
  clear();
  for (const i of found) {
    const cell = picture.querySelector(`[data-k="${other}.${i}"]`);
    if (cell) cell.classList.add('lit');
  }
  words.textContent = tensor === 0
    ? `This input cell feeds ${found.length} of the output cells (outlined).`
    : data.frames.length === data.reads.length ? data.frames[index].words
    : `This output cell reads ${found.length} input cells (outlined).`;
}
function point(event) {
  const cell = event.target.closest ? event.target.closest('[data-k]') : null;
  if (!cell || !data.reads) return;
  const [tensor, index] = cell.dataset.k.split('.').map(Number);
  if (tensor === data.by && index < data.frames.length) { stop(); show(index); }
  else if (tensor === 0 || tensor === data.last) { stop(); light(tensor, index); }
}
picture.addEventListener('click', point);
slider.addEventListener('input', () => { stop(); show(Number(slider.value)); });
play.addEventListener('click', start);
document.getElementById('back').addEventListener('click', () => { stop(); show(step - 1); });
document.getElementById('next').addEventListener('click', () => { stop(); show(step + 1); });
document.addEventListener('keydown', event => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const onButton = event.target.tagName === 'BUTTON', onSlider = event.target === slider;
  if (event.key === ' ' && !onButton) { event.preventDefault(); start(); }
  else if (onSlider) return;
  else if (event.key === 'ArrowRight') { event.preventDefault(); stop(); show(step + 1); }
  else if (event.key === 'ArrowLeft') { event.preventDefault(); stop(); show(step - 1); }
  else if (event.key === 'Home') { event.preventDefault(); stop(); show(0); }
  else if (event.key === 'End') { event.preventDefault(); stop(); show(data.frames.length - 1); }
});
show(step);
"""


def page(scene: Scene, *, seconds: float = 1.0, by: str = "output", last: int = 1) -> str:
    """The scene as a whole page; without steps, only the picture.

    Args:
        seconds: how long each step is shown while it plays.
        by: whether a step belongs to one cell of the "output" or of the "input".
        last: the number of the last tensor, whose cells have the keys "last.index".
    """
    if not scene.frames:
        return _page(scene, svg.document(scene), "")
    picture = svg.document(Scene(scene.title, scene.words, scene.width, scene.height, scene.items))
    extra = svg.styles(item for frame in scene.frames for item in frame.items)
    picture = picture.replace("</style>", f"{extra}</style>", 1)
    layer = '<g id="layer" pointer-events="none"></g></svg>'
    picture = picture.replace("</svg>", layer)
    data = {
        "frames": [{"svg": svg.elements(f.items), "words": f.words} for f in scene.frames],
        "still": scene.still,
        "seconds": seconds,
        "reads": scene.reads,
        "last": last,
        "by": last if by == "output" else 0,
    }
    stored = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    controls = (
        '<div class="bar"><button id="back" type="button" aria-label="Previous step">◀</button>'
        '<button id="play" type="button" aria-pressed="false">Play</button>'
        '<button id="next" type="button" aria-label="Next step">▶</button>'
        f'<input id="step" type="range" min="0" max="{len(scene.frames) - 1}" '
        f'value="{scene.still}" aria-label="Step">'
        '<output id="count" for="step"></output></div>\n'
        '<p id="words" aria-live="polite"></p>\n'
        '<p class="help">Keys: ← → one step, Home, End, space to play. '
        "Click or tap a cell to see what it reads, or what it feeds.</p>\n"
        f'<script type="application/json" id="data">{stored}</script>\n'
        f"<script>{_SCRIPT}</script>"
    )
    return _page(scene, picture, controls)


def _page(scene: Scene, picture: str, controls: str) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    style = _STYLE.replace("%FONT%", svg.FONT)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}; img-src data:">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(scene.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<main>\n<h1 style="font-size:18px;margin:0 0 8px">{html.escape(scene.title)}</h1>\n'
        f"{picture}{controls}\n</main>\n</body>\n</html>\n"
    )
