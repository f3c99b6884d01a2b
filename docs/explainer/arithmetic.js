'use strict';
// The integer arithmetic of convjax, ported: sizes, padding, what each output reads, what it costs.
// Nothing here knows the page. tests/tools/test_explainer.py compares it with the library.

const Conv = {};

Conv.KINDS = {
  dense: 'every output channel sees every input channel through its own window',
  pointwise: 'one matrix over the channels, at every pixel',
  dilated: 'taps some way apart: a wider view for the same weights',
  transposed: 'the adjoint of a convolution: every input paints a copy of the kernel',
  spatially_separable: 'one convolution per spatial axis, one after the other',
  depthwise: 'every channel by itself, M kernels each',
  depthwise_separable: 'depthwise over space, then pointwise over channels',
  flattened: 'rank-1 filters: across the channels, then along every axis',
  grouped: 'G separate paths, each from its own channels to its own',
  channel_shuffle: 'interleaves the channels of G groups',
  shuffled_grouped: 'grouped, then shuffled, so that the next groups see all of these',
  pointwise_grouped: 'one matrix per group, at every pixel',
  resize: 'enlarges by nearest neighbour or bilinearly, then convolves',
  pixel_shuffle: 'lays r^d channels out as a block of pixels',
  subpixel: 'convolves to r^d times the channels, then lays them out in space',
  hold: 'a fixed moving average, the cure of checkerboards',
};

// Which knobs a kind has, besides rank and input size.
Conv.KNOBS = {
  dense: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'groups', 'in', 'out'],
  pointwise: ['strides', 'in', 'out'],
  dilated: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'in', 'out'],
  transposed:
    ['kernel', 'strides', 'dilation', 'padding', 'mode', 'output_padding', 'groups', 'in', 'out'],
  spatially_separable: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'in', 'out'],
  depthwise: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'in', 'multiplier'],
  depthwise_separable:
    ['kernel', 'strides', 'dilation', 'padding', 'mode', 'in', 'multiplier', 'out'],
  flattened: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'in', 'out'],
  grouped: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'groups', 'in', 'out'],
  channel_shuffle: ['groups', 'in'],
  shuffled_grouped: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'groups', 'in', 'out'],
  pointwise_grouped: ['strides', 'groups', 'in', 'out'],
  resize: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'scale', 'method', 'in', 'out'],
  pixel_shuffle: ['scale', 'out'],
  subpixel: ['kernel', 'strides', 'dilation', 'padding', 'mode', 'scale', 'in', 'out'],
  hold: ['strides', 'padding', 'mode', 'scale', 'order', 'in'],
};

Conv.product = values => values.reduce((a, b) => a * b, 1);
Conv.dilated = (n, d) => (n > 0 ? (n - 1) * d + 1 : 0);
const range = n => Array.from({ length: Math.max(n, 0) }, (_, i) => i);

// ---- padding --------------------------------------------------------------------------------

// A policy's word, or a pair [lo, hi], as a pair, along one axis.
Conv.pair = function (padding, axis, n, reach, s) {
  if (typeof padding !== 'string') return padding;
  const total = Math.max(0, (Math.ceil(n / s) - 1) * s + reach - n);
  const half = Math.floor(total / 2);
  if (padding === 'VALID') return [0, 0];
  if (padding === 'FULL') return [reach - 1, reach - 1];
  if (padding === 'CAUSAL' && axis === 0) return [reach - 1, 0];
  return padding === 'SAME_LOWER' ? [total - half, half] : [half, total - half];
};

// What stands at a position of an axis, which may lie outside: an element's index, 'pad' or 'hole'.
Conv.source = function (position, n, mode, hole) {
  if (mode === 'constant') {
    if (position % hole) return 'hole'; // zeros are inserted in the padding, too
    return position < 0 || position >= Conv.dilated(n, hole) ? 'pad' : position / hole;
  }
  if (position >= 0 && position < n) return position;
  const before = position < 0;
  if (mode === 'edge') return before ? 0 : n - 1;
  if (mode === 'wrap') return before ? position + n : position - n;
  if (mode === 'reflect') return before ? -position : 2 * (n - 1) - position;
  return before ? -position - 1 : 2 * n - 1 - position; // symmetric
};

// How many elements a boundary mode can add on one side.
Conv.limit = (mode, n) => ({ reflect: n - 1, symmetric: n, wrap: n })[mode] ?? Infinity;

// ---- one axis of a convolution -------------------------------------------------------------

// { n, k, s, d, hole, lo, hi, mode, size }: extents, steps, padding, and the extent of the result.
Conv.axis = function (n, k, s, d, hole, padding, mode, number) {
  const reach = Conv.dilated(k, d), wide = Conv.dilated(n, hole);
  const [lo, hi] = Conv.pair(padding, number, wide, reach, s);
  if (reach > wide + lo + hi) {
    throw new RangeError(
      `The kernel reaches over ${reach} elements, and the padded input has ${wide + lo + hi}. ` +
      'Take a smaller kernel or more padding, such as SAME.');
  }
  if (Math.max(lo, hi) > Conv.limit(mode, n)) {
    throw new RangeError(
      `The mode ${mode} can add at most ${Conv.limit(mode, n)} elements on a side, ` +
      `not ${Math.max(lo, hi)}. Take less padding, or the mode constant or edge.`);
  }
  const size = Math.floor((wide + lo + hi - reach) / s) + 1;
  return { n, k, s, d, hole, lo, hi, mode, size };
};

// Per tap of an output: the element that it meets, 'pad' or 'hole'.
Conv.taps = (a, o) => range(a.k).map(t => Conv.source(o * a.s + t * a.d - a.lo, a.n, a.mode, a.hole));

// Pairs (output, tap) on elements and their copies, and on padding; zeros between count in neither.
Conv.pairs = function (a) {
  let real = 0, padded = 0;
  for (const o of range(a.size)) {
    for (const source of Conv.taps(a, o)) {
      if (source === 'pad') padded += 1;
      else if (source !== 'hole') real += 1;
    }
  }
  return { real, padded };
};

// The sources that each output reads, without repetition.
const unique = values => [...new Set(values)].sort((a, b) => a - b);
Conv.reads = a =>
  range(a.size).map(o => unique(Conv.taps(a, o).filter(source => typeof source === 'number')));

// ---- one axis of a transposed convolution ----------------------------------------------------

// The forward axis that it transposes, whose n is the extent of the result (relation 14).
Conv.transposedAxis = function (n, k, s, d, padding, mode, extra, number) {
  const reach = Conv.dilated(k, d);
  const same = padding === 'SAME' || padding === 'SAME_LOWER' || padding === 'CAUSAL';
  if (extra > 0 && (same || extra >= s)) {
    throw new RangeError(same
      ? `Output padding must be 0 under ${padding}, whose result has n·s elements.`
      : `Output padding (${extra}) must be less than the stride (${s}).`);
  }
  const causal = padding === 'CAUSAL' && number === 0; // looks back: only the end is cropped
  if (causal && mode !== 'constant') {
    throw new RangeError(`Under CAUSAL the first axis has the mode constant, not ${mode}.`);
  }
  const [lo, hi] = causal ? [0, reach - s] : Conv.pair(padding, number, n * s, reach, s);
  const size = same ? n * s : (n - 1) * s + reach - lo - hi + extra;
  if (size < 1) {
    throw new RangeError(`The padding crops everything: the result would have extent ${size}.`);
  }
  const forward = Conv.axis(size, k, s, d, 1, [lo, hi], mode, number);
  if (forward.size !== n) throw new RangeError('No convolution maps that extent back.');
  return forward;
};

// The inputs that each element of the result reads: those whose window, forward, covers it.
Conv.transposedReads = function (forward) {
  const found = range(forward.n).map(() => []);
  Conv.reads(forward).forEach((sources, i) => sources.forEach(u => found[u].push(i)));
  return found;
};

// The direct convolution that equals it, for counting: zeros inserted, kernel turned.
Conv.direct = function (forward) {
  const constant = forward.mode === 'constant';
  const [before, after] = constant ? [0, 0] : [Math.max(forward.lo, 0), Math.max(forward.hi, 0)];
  const written = forward.n + before + after;
  const lo = Conv.dilated(forward.k, forward.d) - 1 - (forward.lo - before);
  return {
    n: forward.size, k: forward.k, s: 1, d: forward.d, hole: forward.s, lo, hi: 0,
    mode: 'constant', size: written,
  };
};

// ---- a kind as stages ------------------------------------------------------------------------

// Settings: { rank, kind, input[], kernel[], strides[], dilation[], padding, mode[],
//   output_padding[], groups, in, out, multiplier, scale[], method, order }
// `padding` is a policy's word, or a pair per axis. Returns the stages, each with
// { type, axes, groups, in, out, params, macs, useful }.
Conv.stages = function (s) {
  const axes = range(s.rank), ones = axes.map(() => 1);
  const knobs = new Set(Conv.KNOBS[s.kind]);
  const strides = knobs.has('strides') ? s.strides : ones;
  const dilation = knobs.has('dilation') ? s.dilation : ones;
  const stages = [];
  let space = s.input, channels = Conv.inChannels(s);

  function conv(k, o) { // o: { strides, dilation, only, groups, out, free, valid }
    const groups = o.groups ?? 1;
    if (channels % groups || o.out % groups) {
      throw new RangeError(`The groups (${groups}) must divide the channels, ${channels} and ${o.out}.`);
    }
    const found = axes.map(a => {
      const mine = o.only === undefined || o.only === a;
      const numbers = typeof s.padding !== 'string';
      const padding = o.valid ? 'VALID' : numbers && !mine ? [0, 0] : numbers ? s.padding[a] : s.padding;
      return Conv.axis(space[a], k[a], mine ? o.strides[a] : 1, mine ? o.dilation[a] : 1, 1,
        padding, o.valid ? 'constant' : s.mode[a], a);
    });
    push('conv', found, groups, o.out, o.free, k, found);
  }
  function push(type, found, groups, out, free, k, counted) {
    const weights = Conv.product(k) * channels / groups * out;
    const counts = counted.map(Conv.pairs), each = channels / groups * out;
    stages.push({
      type, axes: found, groups, in: channels, out, kernel: k, space,
      params: free ? 0 : weights,
      macs: each * Conv.product(counts.map(c => c.real + c.padded)),
      useful: each * Conv.product(counts.map(c => c.real)),
    });
    space = found.map(a => (type === 'transposed' ? a.n : a.size));
    channels = out;
  }
  function simple(type, size, out) {
    stages.push({ type, space, in: channels, out, groups: s.groups, scale: s.scale,
      method: s.method, params: 0, macs: 0, useful: 0 });
    space = size; channels = out;
  }
  const all = { strides, dilation };
  const larger = () => axes.map(a => space[a] * s.scale[a]);
  const along = (k, a) => axes.map(b => (b === a ? k[a] : 1));
  const block = Conv.product(s.scale);

  switch (s.kind) {
    case 'dense': case 'dilated': case 'grouped':
      conv(s.kernel, { ...all, groups: knobs.has('groups') ? s.groups : 1, out: s.out }); break;
    case 'pointwise': case 'pointwise_grouped':
      conv(ones, { strides, dilation: ones, valid: true, out: s.out,
        groups: s.kind === 'pointwise' ? 1 : s.groups }); break;
    case 'depthwise':
      conv(s.kernel, { ...all, groups: s.in, out: s.in * s.multiplier }); break;
    case 'depthwise_separable':
      conv(s.kernel, { ...all, groups: s.in, out: s.in * s.multiplier });
      conv(ones, { strides: ones, dilation: ones, valid: true, out: s.out }); break;
    case 'spatially_separable':
      axes.forEach(a => conv(along(s.kernel, a), { ...all, only: a, out: s.out })); break;
    case 'flattened':
      conv(ones, { strides: ones, dilation: ones, valid: true, out: s.out });
      axes.forEach(a => conv(along(s.kernel, a), { ...all, only: a, groups: s.out, out: s.out }));
      break;
    case 'channel_shuffle': simple('shuffle', space, channels); break;
    case 'shuffled_grouped':
      conv(s.kernel, { ...all, groups: s.groups, out: s.out });
      simple('shuffle', space, channels); break;
    case 'resize':
      simple('resize', larger(), channels);
      conv(s.kernel, { ...all, out: s.out }); break;
    case 'pixel_shuffle': simple('pixels', larger(), s.out); break;
    case 'subpixel':
      conv(s.kernel, { ...all, out: s.out * block });
      simple('pixels', larger(), s.out); break;
    case 'hold': {
      const k = axes.map(a => (s.order + 1) * (s.scale[a] - 1) + 1);
      axes.forEach(a => conv(along(k, a),
        { strides, dilation: ones, only: a, groups: s.in, out: s.in, free: true }));
      break;
    }
    case 'transposed': {
      if (channels % s.groups || s.out % s.groups) {
        throw new RangeError(`The groups (${s.groups}) must divide the channels, ${channels} and ${s.out}.`);
      }
      const found = axes.map(a => Conv.transposedAxis(space[a], s.kernel[a], strides[a], dilation[a],
        typeof s.padding === 'string' ? s.padding : s.padding[a], s.mode[a], s.output_padding[a], a));
      push('transposed', found, s.groups, s.out, false, s.kernel, found.map(Conv.direct)); break;
    }
  }
  for (const stage of stages) {
    if (stage.type === 'shuffle' && stage.in % s.groups) {
      throw new RangeError(`The groups (${s.groups}) must divide the channels (${stage.in}).`);
    }
  }
  return stages;
};

Conv.inChannels = s => (s.kind === 'pixel_shuffle' ? s.out * Conv.product(s.scale) : s.in);

// Extents and channels after a stage.
Conv.after = stage => ({
  space: stage.axes
    ? stage.axes.map(a => (stage.type === 'transposed' ? a.n : a.size))
    : stage.type === 'shuffle' ? stage.space : stage.space.map((n, a) => n * stage.scale[a]),
  channels: stage.out,
});

// ---- what each element of a result reads ---------------------------------------------------------

// Per axis, per output place: the input places, without channels. Null where channels decide too.
Conv.lines = function (stage) {
  if (stage.type === 'conv') return stage.axes.map(Conv.reads);
  if (stage.type === 'transposed') return stage.axes.map(Conv.transposedReads);
  if (stage.type === 'shuffle') return stage.space.map(n => range(n).map(i => [i]));
  return stage.space.map((n, a) => range(n * stage.scale[a]).map(o => {
    const r = stage.scale[a];
    if (stage.type === 'pixels' || stage.method === 'nearest') return [Math.floor(o / r)];
    const centre = (2 * o + 1 - r) / (2 * r), low = Math.floor(centre); // half-pixel centres
    const near = centre === low ? [low] : [low, low + 1];
    return unique(near.map(i => Math.min(Math.max(i, 0), n - 1)));
  }));
};

// The input channels that an output channel reads, at an output place.
Conv.channelsOf = function (stage, place, channel) {
  if (stage.type === 'shuffle') {
    const each = stage.in / stage.groups;
    return [(channel % stage.groups) * each + Math.floor(channel / stage.groups)];
  }
  if (stage.type === 'pixels') {
    const offset = place.reduce((sum, p, a) => sum * stage.scale[a] + (p % stage.scale[a]), 0);
    return [channel * Conv.product(stage.scale) + offset];
  }
  if (stage.type === 'resize') return [channel];
  const group = Math.floor(channel * stage.groups / stage.out), each = stage.in / stage.groups;
  return range(each).map(i => group * each + i);
};

Conv.flat = (place, channel, space, channels) =>
  place.reduce((sum, p, a) => sum * space[a] + p, 0) * channels + channel;
Conv.unflat = function (flat, space, channels) {
  const channel = flat % channels;
  let rest = (flat - channel) / channels;
  const place = [];
  for (let a = space.length - 1; a >= 0; a -= 1) { place[a] = rest % space[a]; rest = (rest - place[a]) / space[a]; }
  return { place, channel };
};

// One stage: per element of its result, the flat indices of what it reads.
Conv.stageReads = function (stage) {
  const lines = Conv.lines(stage), { space, channels } = Conv.after(stage);
  return range(Conv.product(space) * channels).map(flat => {
    const { place, channel } = Conv.unflat(flat, space, channels);
    let places = [[]];
    place.forEach((p, a) => { places = places.flatMap(q => lines[a][p].map(i => [...q, i])); });
    const sources = Conv.channelsOf(stage, place, channel);
    return places.flatMap(q => sources.map(c => Conv.flat(q, c, stage.space, stage.in)));
  });
};

// Everything about one configuration; throws a RangeError where the library raises.
Conv.solve = function (s) {
  const stages = Conv.stages(s);
  let reads = null;
  const each = stages.map(Conv.stageReads);
  for (const stage of each) {
    reads = reads === null ? stage : stage.map(list => unique(list.flatMap(i => reads[i])));
  }
  const last = Conv.after(stages[stages.length - 1]);
  const total = name => stages.reduce((sum, stage) => sum + stage[name], 0);
  return {
    stages, reads: reads.map(unique), space: last.space, channels: last.channels,
    params: total('params'), macs: total('macs'), useful: total('useful'),
  };
};

// The canvas of one axis of a stage's input: padding and inserted zeros around the elements, and
// where on it the window of output o begins: { before, hole, after, step, shift, reach }.
Conv.canvas = function (a, type) {
  const reach = Conv.dilated(a.k, a.d);
  const turned = type === 'transposed';
  const hole = turned ? a.s : a.hole, lo = turned ? reach - 1 - a.lo : a.lo;
  const hi = turned ? a.n + reach - 1 - Conv.dilated(a.size, a.s) - lo : a.hi;
  return {
    before: Math.max(lo, 0), after: Math.max(hi, 0), hole, wide: Conv.dilated(turned ? a.size : a.n, hole),
    step: turned ? 1 : a.s, shift: Math.max(-lo, 0), reach,
  };
};

// Receptive field of a stack of convolutions (k, s, d): size, jump.
Conv.field = function (layers) {
  let size = 1, jump = 1;
  for (const [k, s, d] of layers) { size += (k - 1) * d * jump; jump *= s; }
  return { size, jump };
};

if (typeof module !== 'undefined') module.exports = Conv;
