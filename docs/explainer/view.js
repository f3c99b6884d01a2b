'use strict';
// The page: knobs, cells, facts, code. All numbers come from Conv (arithmetic.js).

const $ = id => document.getElementById(id);
const NUMBERS = { // id: [label, least, most, usual]
  input: ['Input size', 1, 12, 5], kernel: ['Kernel size', 1, 7, 3], strides: ['Strides', 1, 4, 1],
  dilation: ['Kernel dilation', 1, 4, 1], lo: ['Padding, low', -2, 6, 1],
  hi: ['Padding, high', -2, 6, 1], output_padding: ['Output padding', 0, 3, 0],
  groups: ['Groups', 1, 4, 1], in: ['Input channels', 1, 8, 1], out: ['Output channels', 1, 8, 1],
  multiplier: ['Channel multiplier', 1, 3, 1], scale: ['Scale', 1, 4, 2], order: ['Order', 0, 2, 0],
  layers: ['Layers of a stack', 1, 6, 3],
};
const WORDS = {
  rank: ['Rank', ['1', '2', '3'], '2'],
  kind: ['Kind', Object.keys(Conv.KINDS), 'transposed'],
  padding: ['Padding', ['SAME', 'SAME_LOWER', 'VALID', 'FULL', 'CAUSAL', 'numbers'], 'VALID'],
  mode: ['Beyond the edge', ['constant', 'reflect', 'symmetric', 'edge', 'wrap'], 'constant'],
  method: ['Method', ['nearest', 'bilinear'], 'nearest'],
};
const START = { input: 3, strides: 2 };
const MOST = { cells: 700, matrix: 4096 };
const values = {};
let windows = null, solved = null, settings = null, feeds = null, chosen = { tensor: 1, index: 0 }, library = 'convjax';

function element(name, attributes = {}, ...children) {
  const svg = ['svg', 'rect', 'text', 'g'].includes(name);
  const made = svg ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// ---- knobs ------------------------------------------------------------------------------------

function build() {
  for (const [id, [label, choices, usual]] of Object.entries(WORDS)) {
    const select = element('select', { id });
    for (const word of choices) select.append(element('option', { value: word }, word.replaceAll('_', id === 'kind' ? ' ' : '_')));
    select.value = usual;
    const wide = id === 'kind' ? 'knob wide' : 'knob';
    $('fields').append(element('label', { class: wide, id: `knob-${id}` }, element('span', {}, label), select));
    select.addEventListener('change', () => { values[id] = select.value; update(); });
    values[id] = usual;
  }
  for (const [id, [label, least, most, usual]] of Object.entries(NUMBERS)) {
    const first = START[id] ?? usual;
    const slider = element('input', { id, type: 'range', min: least, max: most, value: first });
    const shown = element('output', { for: id, id: `value-${id}` }, String(first));
    $('fields').append(element('label', { class: 'knob', id: `knob-${id}` }, element('span', {}, label, shown), slider));
    slider.addEventListener('input', () => { values[id] = Number(slider.value); update(); });
    values[id] = first;
  }
  for (const name of Code.LIBRARIES) {
    const tab = element('button', { type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'code' }, name);
    tab.addEventListener('click', () => { library = name; code(); });
    tab.addEventListener('keydown', event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const all = Code.LIBRARIES;
      library = all[(all.indexOf(library) + step + all.length) % all.length];
      code();
      $(`tab-${library}`).focus();
    });
    $('tabs').append(tab);
  }
}

function knobsOf(kind) {
  const found = new Set(['rank', 'kind', 'input', ...Conv.KNOBS[kind]]);
  if (found.has('padding') && values.padding === 'numbers') { found.add('lo'); found.add('hi'); }
  if ((found.has('kernel') && kind !== 'transposed') || kind === 'hold') found.add('layers');
  return found;
}

function read() {
  const rank = Number(values.rank), each = id => Array(rank).fill(values[id]);
  return {
    rank, kind: values.kind, input: each('input'), kernel: each('kernel'), strides: each('strides'),
    dilation: each('dilation'), mode: each('mode'), output_padding: each('output_padding'),
    padding: values.padding === 'numbers' ? Array(rank).fill([values.lo, values.hi]) : values.padding,
    groups: values.groups, in: values.in, out: values.out, multiplier: values.multiplier,
    scale: each('scale'), method: values.method, order: values.order,
  };
}

// Settings in the address, so that a page can be linked to, and taken from there.
function address() { return '#' + new URLSearchParams(values).toString(); }
function arrive() {
  for (const [id, value] of new URLSearchParams(location.hash.slice(1))) {
    if (id in WORDS && WORDS[id][1].includes(value)) values[id] = value;
    else if (id in NUMBERS && Number.isInteger(Number(value))) {
      values[id] = Math.min(Math.max(Number(value), NUMBERS[id][1]), NUMBERS[id][2]);
    } else continue;
    $(id).value = values[id];
  }
}

function update() {
  const shown = knobsOf(values.kind);
  for (const id of [...Object.keys(WORDS), ...Object.keys(NUMBERS)]) {
    $(`knob-${id}`).hidden = !shown.has(id);
    if (id in NUMBERS) $(`value-${id}`).textContent = values[id];
  }
  settings = read();
  $('heading').textContent = values.kind.replaceAll('_', ' ');
  $('summary').textContent = Conv.KINDS[values.kind] + '.';
  try {
    solved = Conv.solve(settings);
    feeds = Array.from({ length: Conv.product(settings.input) * Conv.inChannels(settings) }, () => []);
    solved.reads.forEach((list, o) => list.forEach(i => feeds[i].push(o)));
    $('error').hidden = true;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    solved = null;
    $('error').textContent = error.message;
    $('error').hidden = false;
  }
  for (const id of ['board', 'facts', 'matrix', 'traps']) $(id).replaceChildren();
  $('saying').textContent = $('matrix-words').textContent = '';
  if (solved) {
    const middle = Math.floor(solved.reads.length / 2);
    chosen = { tensor: 1, index: middle };
    board(); facts(); matrix(); select(chosen.tensor, chosen.index);
  }
  code();
}

// ---- cells ------------------------------------------------------------------------------------

function tensors() {
  return [
    { name: 'Input', role: 'in', space: settings.input, channels: Conv.inChannels(settings) },
    { name: 'Output', role: 'out', space: solved.space, channels: solved.channels },
  ];
}

// Where a place of the canvas is: channels side by side, depth slices below each other.
function spot(at, channel, extents, cell) {
  const [d, h, w] = [...Array(3 - at.length).fill(0), ...at];
  const [, high, wide] = [...Array(3 - at.length).fill(1), ...extents];
  return at.length === 1
    ? { x: w * cell, y: channel * (cell + 4) }
    : { x: channel * (wide * cell + 14) + w * cell, y: d * (high * cell + 14) + h * cell };
}

// The canvas of the input, per axis, where one window moves over it; null where none does.
function canvas() {
  const [stage] = solved.stages;
  if (solved.stages.length > 1 || !stage.axes) return null;
  if (stage.type === 'transposed' && stage.axes.some(a => a.mode !== 'constant')) return null;
  const axes = stage.axes.map(a => Conv.canvas(a, stage.type));
  const cells = Conv.product(axes.map(a => a.before + a.wide + a.after)) * stage.in;
  return cells > MOST.cells ? null : axes;
}

function board() {
  windows = null;
  const both = tensors();
  const counts = both.map(t => Conv.product(t.space) * t.channels);
  if (Math.max(...counts) > MOST.cells) {
    $('board').textContent = `These are ${counts.join(' and ')} cells: too many to draw. The numbers below hold all the same.`;
    return;
  }
  for (const [number, tensor] of both.entries()) {
    const axes = number ? null : canvas();
    const extents = tensor.space.map((n, a) => (axes ? axes[a].before + axes[a].wide + axes[a].after : n));
    const widest = extents[extents.length - 1] * (extents.length === 1 ? 1 : tensor.channels);
    const cell = Math.max(16, Math.min(34, Math.floor(480 / widest)));
    const onCanvas = at => at.map((p, a) => (axes ? axes[a].before + p * axes[a].hole : p));
    const where = [...Array(counts[number]).keys()].map(flat => {
      const { place: at, channel } = Conv.unflat(flat, tensor.space, tensor.channels);
      return spot(onCanvas(at), channel, extents, cell);
    });
    const everywhere = [...Array(Conv.product(extents) * tensor.channels).keys()].map(flat => {
      const { place: at, channel } = Conv.unflat(flat, extents, tensor.channels);
      return { ...spot(at, channel, extents, cell), at };
    });
    const width = Math.max(...everywhere.map(p => p.x)) + cell + 2, height = Math.max(...everywhere.map(p => p.y)) + cell + 2;
    const label = `${tensor.name}, ${tensor.space.join(' by ')}, ${tensor.channels} channel${tensor.channels > 1 ? 's' : ''}`;
    const svg = element('svg', {
      viewBox: `-1 -1 ${width} ${height}`, width, height, tabindex: 0, role: 'application',
      'aria-roledescription': 'grid of cells', 'aria-label': label, 'data-tensor': number,
    });
    for (const p of axes ? everywhere : []) {
      const between = p.at.every((q, a) => q >= axes[a].before && q < axes[a].before + axes[a].wide);
      svg.append(element('rect', {
        x: p.x, y: p.y, width: cell - 1, height: cell - 1, rx: 3, class: between ? 'inserted' : 'pad',
      }));
    }
    if (axes) windows = { svg, axes, extents, cell, channels: tensor.channels };
    where.forEach((p, flat) => {
      svg.append(element('rect', {
        x: p.x, y: p.y, width: cell - 1, height: cell - 1, rx: 3, class: tensor.role, 'data-index': flat,
      }));
      const text = element('text', {
        x: p.x + (cell - 1) / 2, y: p.y + cell * 0.63, 'font-size': cell * 0.36, 'text-anchor': 'middle',
        'pointer-events': 'none', 'aria-hidden': 'true',
      }, String(number ? solved.reads[flat].length : feeds[flat].length));
      svg.append(text);
    });
    const over = event => {
      const index = event.target.getAttribute && event.target.getAttribute('data-index');
      if (index !== null && index !== undefined) select(number, Number(index));
    };
    svg.addEventListener('pointerover', over);
    svg.addEventListener('click', over);
    svg.addEventListener('focus', () => { if (chosen.tensor !== number) select(number, 0); });
    svg.addEventListener('keydown', event => move(event, number, tensor));
    const words = number ? 'how many inputs each one reads' : 'how many outputs each one feeds';
    $('board').append(element('div', {}, element('p', {},
      element('b', {}, `${tensor.name} ${tensor.space.join('×')}`), ` (${words})`), svg));
  }
}

function move(event, number, tensor) {
  const last = tensor.space.length - 1;
  const step = {
    ArrowRight: [last, 1], ArrowLeft: [last, -1], ArrowDown: [last - 1, 1], ArrowUp: [last - 1, -1],
    PageDown: [last - 2, 1], PageUp: [last - 2, -1],
  }[event.key];
  if (!step) return;
  event.preventDefault();
  const found = Conv.unflat(chosen.index, tensor.space, tensor.channels);
  let [axis, by] = step;
  if (axis < 0) found.channel = Math.min(Math.max(found.channel + by, 0), tensor.channels - 1);
  else found.place[axis] = Math.min(Math.max(found.place[axis] + by, 0), tensor.space[axis] - 1);
  select(number, Conv.flat(found.place, found.channel, tensor.space, tensor.channels));
}

// The outline of the window of an output, on the channels that it reads.
function frame(output, found) {
  for (const old of document.querySelectorAll('.window')) old.remove();
  if (!windows || !output) return;
  const { svg, axes, extents, cell, channels } = windows;
  const first = axes.map((a, i) => a.shift + output[i] * a.step), [, high, wide] = [1, 1, ...axes.map(a => a.reach)].slice(-3);
  const depths = axes.length === 3 ? [...Array(axes[0].reach).keys()] : [0];
  for (const channel of new Set(found.length ? found.map(i => i % channels) : [0])) {
    for (const depth of depths) {
      const at = axes.length === 3 ? [first[0] + depth, first[1], first[2]] : first;
      const { x, y } = spot(at, channel, extents, cell);
      svg.append(element('rect', {
        class: 'window', x: x - 0.5, y: y - 0.5, width: wide * cell, height: high * cell, rx: 4,
        'pointer-events': 'none',
      }));
    }
  }
}

function named(tensor, flat) {
  const { place: at, channel } = Conv.unflat(flat, tensor.space, tensor.channels);
  return `[${at.join(', ')}${tensor.channels > 1 ? `; ${channel}` : ''}]`;
}

function select(tensor, index) {
  chosen = { tensor, index };
  const both = tensors(), other = 1 - tensor;
  const found = tensor ? solved.reads[index] : feeds[index];
  const hit = new Set(found);
  document.querySelectorAll('#board svg').forEach((svg, number) => {
    svg.querySelectorAll('rect[data-index]').forEach((rect, flat) => {
      const here = number === tensor && flat === index, there = number === other && hit.has(flat);
      rect.classList.toggle('chosen', here);
      rect.classList.toggle('read', there);
      rect.nextSibling.setAttribute('class', here ? 'on-chosen' : there && number === 0 ? 'on-tap' : '');
    });
  });
  frame(tensor ? Conv.unflat(index, both[1].space, both[1].channels).place : null, found);
  const list = found.slice(0, 12).map(i => named(both[other], i)).join(' ') + (found.length > 12 ? ' …' : '');
  $('saying').textContent = `${both[tensor].name} ${named(both[tensor], index)} ` +
    (found.length
      ? `${tensor ? 'reads' : 'feeds'} ${found.length} ${tensor ? 'input' : 'output'}${found.length > 1 ? 's' : ''}: ${list}`
      : tensor ? 'reads no input: its window is on padding.' : 'feeds no output.');
  for (const row of document.querySelectorAll('.row-now')) row.remove();
  const grid = $('matrix').querySelector('svg');
  if (grid) grid.append(line(tensor, index));
}

// ---- numbers ----------------------------------------------------------------------------------

function relation() {
  const stage = solved.stages.find(t => t.type === 'conv' || t.type === 'transposed');
  if (!stage) {
    return settings.kind === 'pixel_shuffle' ? 'o = i·r' : 'o = i';
  }
  const a = stage.axes[0], reach = Conv.dilated(a.k, a.d);
  if (stage.type === 'transposed') {
    const i = stage.space[0], extra = a.n - ((i - 1) * a.s + reach - a.lo - a.hi);
    return `relation 14: o = s(i − 1) + a + k̂ − lo − hi = ${a.s}·(${i} − 1) + ${extra} + ${reach} − ${a.lo} − ${a.hi} = ${a.n}`;
  }
  const number = a.d > 1 ? 'relation 15' : 'relation 6';
  const more = solved.stages.length > 1 ? ' (first window)' : '';
  return `${number}: o = ⌊(i + lo + hi − k̂) / s⌋ + 1 = ⌊(${a.n} + ${a.lo} + ${a.hi} − ${reach}) / ${a.s}⌋ + 1 = ${a.size}${more}`;
}

function facts() {
  const counts = solved.reads.map(list => list.length), hits = feeds.map(list => list.length);
  const span = list => (Math.min(...list) === Math.max(...list) ? `${list[0]}` : `${Math.min(...list)} to ${Math.max(...list)}`);
  const pads = solved.stages.filter(t => t.axes).map(t => t.axes.map(a => `(${a.lo}, ${a.hi})`).join(' '));
  const stack = solved.stages.filter(t => t.type === 'conv').map(t => t.axes[0]);
  const layers = [];
  for (let n = 0; n < values.layers; n += 1) for (const a of stack) layers.push([a.k, a.s, a.d]);
  const field = Conv.field(layers);
  const rows = [
    ['Sizes', `${settings.input.join('×')}×${Conv.inChannels(settings)} → ${solved.space.join('×')}×${solved.channels}`],
    ['Relation, first axis', relation()],
    ['Padding (low, high)', pads.join(' · ') || 'none'],
    ['Weights', solved.params.toLocaleString('en')],
    ['Multiply-accumulates', `${solved.macs.toLocaleString('en')} (${solved.useful.toLocaleString('en')} on real elements)`],
    ['Inputs that an output reads', span(counts)],
    ['Outputs that an input feeds', span(hits)],
  ];
  if (stack.length) rows.push([`Receptive field of ${values.layers} such layers`, `${field.size} along the first axis, one output every ${field.jump}`]);
  if (settings.kind === 'transposed') {
    const a = solved.stages[0].axes[0];
    const line = Conv.transposedReads(a).map(list => list.length);
    rows.push(['Overlap along the first axis', `${line.join(' ')} ${a.k % a.s ? '(uneven: stride does not divide kernel)' : '(even inside)'}`]);
  }
  for (const [name, value] of rows) $('facts').append(element('dt', {}, name), element('dd', {}, value));
}

function matrixCell() {
  return Math.max(3, Math.min(18, Math.floor(620 / Math.max(feeds.length, solved.reads.length))));
}

function matrix() {
  const rows = solved.reads.length, columns = feeds.length;
  const entries = solved.reads.reduce((sum, list) => sum + list.length, 0);
  $('matrix-words').textContent = `${rows}×${columns}, ${entries} entries of ${rows * columns} are not zero: ` +
    'row = output element, column = input element.';
  if (rows * columns > MOST.matrix) {
    $('matrix').textContent = 'It has too many entries to draw.';
    return;
  }
  const cell = matrixCell();
  const svg = element('svg', {
    viewBox: `-1 -1 ${columns * cell + 2} ${rows * cell + 2}`, width: columns * cell + 2, height: rows * cell + 2,
    role: 'img', 'aria-label': `The matrix C, ${rows} by ${columns}, with ${entries} entries that are not zero`,
  }, element('rect', { class: 'plate', width: columns * cell, height: rows * cell }));
  solved.reads.forEach((list, o) => list.forEach(i => svg.append(
    element('rect', { class: 'dot', x: i * cell + 0.5, y: o * cell + 0.5, width: cell - 1, height: cell - 1 }))));
  $('matrix').append(svg);
}

function line(tensor, index) {
  const cell = matrixCell(), rows = solved.reads.length, columns = feeds.length;
  return element('rect', tensor
    ? { class: 'row-now', x: 0, y: index * cell, width: columns * cell, height: cell }
    : { class: 'row-now', x: index * cell, y: 0, width: cell, height: rows * cell });
}

function code() {
  for (const name of Code.LIBRARIES) {
    const here = name === library;
    $(`tab-${name}`).setAttribute('aria-selected', String(here));
    $(`tab-${name}`).tabIndex = here ? 0 : -1;
  }
  $('code').textContent = solved ? Code.of(library, settings, solved) : '';
  $('copied').textContent = $('shared').textContent = '';
  $('traps').replaceChildren(...(solved ? Code.traps(settings, solved) : []).map(trap => element('li', {}, trap)));
}

async function copy(text, status) {
  try {
    await navigator.clipboard.writeText(text);
    status.textContent = 'Copied.';
  } catch {
    status.textContent = 'This browser does not let the page copy: select the text.';
  }
}

build();
arrive();
$('copy').addEventListener('click', () => copy($('code').textContent, $('copied')));
$('share').addEventListener('click', () => {
  history.replaceState(null, '', address());
  copy(location.href, $('shared'));
});
window.addEventListener('hashchange', () => { arrive(); update(); });
update();
