'use strict';
// The same call in five libraries, ready to copy, with what goes wrong otherwise in comments.
// Each one's operands are named above it; tests/tools/test_explainer_code.py runs them and compares.

const Code = {};
Code.LIBRARIES = ['convjax', 'Flax', 'PyTorch', 'Keras', 'lax'];
// The kinds that every library has in one call; the others are made of these.
Code.PLAIN = ['dense', 'dilated', 'grouped', 'depthwise', 'pointwise', 'pointwise_grouped'];

const all = (values, test) => values.every(test);
const same = values => all(values, v => v === values[0]);
const tuple = values => (values.length === 1 ? `(${values[0]},)` : `(${values.join(', ')})`);
const brief = values => (same(values) ? `${values[0]}` : tuple(values));
const pairText = pairs => tuple(pairs.map(p => `(${p[0]}, ${p[1]})`));
const DIMS = { 1: ['NWC', 'WIO', 'NWC'], 2: ['NHWC', 'HWIO', 'NHWC'], 3: ['NDHWC', 'DHWIO', 'NDHWC'] };
const TORCH_MODE = { constant: 'constant', reflect: 'reflect', edge: 'replicate', wrap: 'circular' };

// The options of convjax's call, only those that differ from their defaults.
Code.options = function (s) {
  const knobs = new Set(Conv.KNOBS[s.kind]), found = [];
  const given = (name, values, usual) => {
    if (!all(values, v => v === usual)) found.push(`${name}=${brief(values)}`);
  };
  if (knobs.has('method') && s.method !== 'nearest') found.push(`method="${s.method}"`);
  if (knobs.has('order') && s.order) found.push(`order=${s.order}`);
  if (knobs.has('strides')) given('strides', s.strides, 1);
  if (knobs.has('padding')) {
    if (typeof s.padding === 'string') {
      if (s.padding !== 'SAME') found.push(`padding="${s.padding}"`);
    } else if (all(s.padding, p => p[0] === p[1])) {
      found.push(`padding=${brief(s.padding.map(p => p[0]))}`);
    } else found.push(`padding=${pairText(s.padding)}`);
  }
  if (knobs.has('mode') && !(s.kind === 'hold' && all(s.mode, m => m === 'edge'))) {
    const words = s.mode.map(m => `"${m}"`);
    if (s.kind === 'hold' || !all(s.mode, m => m === 'constant')) {
      found.push(`padding_mode=${brief(words)}`);
    }
  }
  if (knobs.has('dilation') && s.kind !== 'dilated') given('kernel_dilation', s.dilation, 1);
  if (['dense', 'transposed'].includes(s.kind) && s.groups > 1) {
    found.push(`feature_group_count=${s.groups}`);
  }
  if (knobs.has('output_padding')) given('output_padding', s.output_padding, 0);
  return found;
};

Code.convjax = function (s) {
  const scale = brief(s.scale), names = {
    dense: ['conv', 'kernel'], pointwise: ['pointwise_conv', 'kernel'],
    dilated: ['dilated_conv', 'kernel', brief(s.dilation)],
    transposed: ['conv_transpose', 'kernel'],
    spatially_separable: ['spatially_separable_conv', 'kernels'],
    depthwise: ['depthwise_conv', 'kernel'],
    depthwise_separable: ['depthwise_separable_conv', 'kernel', 'pointwise_kernel'],
    flattened: ['flattened_conv', 'lateral_kernel', 'kernels'],
    grouped: ['grouped_conv', 'kernel', s.groups],
    channel_shuffle: ['channel_shuffle', s.groups],
    shuffled_grouped: ['shuffled_grouped_conv', 'kernel', s.groups],
    pointwise_grouped: ['pointwise_grouped_conv', 'kernel', s.groups],
    resize: ['resize_conv', 'kernel', scale], pixel_shuffle: ['pixel_shuffle', scale],
    subpixel: ['subpixel_conv', 'kernel', scale], hold: ['hold', scale],
  };
  const [name, ...operands] = names[s.kind];
  const words = ['x', ...operands, ...Code.options(s)].join(', ');
  return `import convjax\n\ny = convjax.${name}(${words})`;
};

// What the other libraries' calls are made of, for kinds of one convolution.
function parts(s, solved) {
  const stage = solved.stages[0];
  const axes = s.kind === 'transposed' ? stage.axes : stage.axes;
  return {
    pairs: axes.map(a => [a.lo, a.hi]), strides: axes.map(a => a.s), dilation: axes.map(a => a.d),
    groups: stage.groups, mode: axes.map(a => a.mode), kernel: stage.kernel,
    zeros: all(axes, a => a.mode === 'constant'), in: stage.in, out: stage.out,
  };
}
const none = pairs => all(pairs, p => p[0] === 0 && p[1] === 0);

// "this is SAME_LOWER, not SAME", and its like.
Code.traps = function (s, solved) {
  const found = [];
  const stage = solved.stages.find(t => t.type === 'conv' || t.type === 'transposed');
  if (!stage) return found;
  const pairs = stage.axes.map(a => [a.lo, a.hi]);
  const odd = pairs.some(p => p[0] !== p[1]);
  if (s.padding === 'SAME' && odd) {
    found.push('SAME puts the odd element of padding at the high end. PyTorch’s padding=1 puts one ' +
      'on both sides, so that its windows stand elsewhere, even where the sizes agree.');
  }
  if (s.padding === 'SAME_LOWER' && odd) {
    found.push('This is SAME_LOWER, not SAME: the odd element of padding is at the low end. Only lax ' +
      'and convjax have the word.');
  }
  if (s.padding === 'SAME' && stage.axes.some(a => a.s > 1)) {
    found.push('With strides above 1, PyTorch refuses padding="same"; TensorFlow, Keras and JAX ' +
      'make the size ceil(n / stride).');
  }
  if (s.padding === 'FULL') found.push('Flax, Keras and PyTorch have no word for FULL: give numbers.');
  if (s.padding === 'CAUSAL' && s.rank > 1) {
    found.push('CAUSAL speaks of the first spatial axis only; Flax has it for one axis only.');
  }
  if (s.kind === 'transposed') {
    found.push('lax.conv_transpose does not flip the kernel unless transpose_kernel=True: it is ' +
      'no adjoint of conv without it. It has no groups either.');
    if (s.padding === 'SAME') {
      found.push('PyTorch has no SAME here: what it crops must be symmetric, up to output_padding.');
    }
    if (stage.axes.some(a => a.k % a.s)) {
      found.push('The kernel size is not divisible by the stride: the overlap is uneven, which ' +
        'favours checkerboards.');
    }
  }
  if (stage.axes.some(a => a.mode === 'symmetric')) {
    found.push('PyTorch has no symmetric mode: its reflect leaves the edge element out.');
  }
  if (s.kind === 'depthwise' && s.multiplier > 1) {
    found.push('Channel i·M + m: TensorFlow’s depthwise kernel is (*K, I, M), convjax’s (*K, 1, I·M).');
  }
  if (s.kind === 'pixel_shuffle' || s.kind === 'subpixel') {
    found.push('Channels are read as c·r² + offset, PyTorch’s order; TensorFlow’s depth_to_space ' +
      'reads offset·C + c.');
  }
  if (s.kind === 'channel_shuffle' || s.kind === 'shuffled_grouped') {
    found.push('The paper’s permutation: reshape to (G, n), transpose, flatten. Some code applies ' +
      'its inverse, which is the same only where G = n.');
  }
  if (s.kind === 'dense' && stage.groups > 1) {
    found.push('A kernel’s input axis has in_features / groups entries, in every library.');
  }
  return found;
};

const composed = (library, s) =>
  `# ${library} has no single call for this kind. It is made of:\n` + {
    spatially_separable: '#   one convolution per axis, with kernels such as (3, 1) and (1, 3)',
    depthwise_separable: '#   a depthwise convolution, then a 1×1 convolution',
    flattened: '#   a 1×1 convolution, then one depthwise convolution per axis',
    channel_shuffle: '#   reshape (..., G, C // G), swap the last two axes, reshape (..., C)',
    shuffled_grouped: '#   a grouped convolution, then reshape, swap and reshape the channels',
    resize: '#   a resize (nearest or bilinear), then a convolution at the high resolution',
    pixel_shuffle: '#   a reshape and a transpose (PyTorch: torch.nn.functional.pixel_shuffle)',
    subpixel: '#   a convolution to r**d times the channels, then a pixel shuffle',
    hold: '#   a depthwise convolution with a constant box kernel per axis',
  }[s.kind];

const padFirst = (q, call) => [
  `x = jnp.pad(x, ${padAll(q.pairs)}, mode=${quoted(q.mode[0])})`, call];
const quoted = word => `"${word}"`;
const padAll = pairs => `((0, 0), ${pairs.map(p => `(${p[0]}, ${p[1]})`).join(', ')}, (0, 0))`;
const uneven = q => !same(q.mode) || (!q.zeros && q.pairs.some(p => Math.min(...p) < 0));
const perAxis = '# A mode for each axis: pad axis by axis first, then convolve with padding VALID.';

Code.lax = function (s, solved) {
  const plain = Code.PLAIN.includes(s.kind);
  if (!plain && s.kind !== 'transposed') return composed('lax', s);
  const q = parts(s, solved), dims = `(${DIMS[s.rank].map(quoted).join(', ')})`;
  if (s.kind === 'transposed') {
    if (!q.zeros) return '# lax.conv_transpose knows zeros only: the border must be folded back by hand.';
    const extra = solved.stages[0].axes.map((a, i) => a.n - ((solved.stages[0].space[i] - 1) * a.s +
      Conv.dilated(a.k, a.d) - a.lo - a.hi));
    const reach = solved.stages[0].axes.map(a => Conv.dilated(a.k, a.d) - 1);
    const pads = q.pairs.map((p, i) => [reach[i] - p[0], reach[i] - p[1] + extra[i]]);
    if (q.groups > 1) return '# lax.conv_transpose has no groups: one call per group, or convjax.';
    return ['from jax import lax', '',
      '# padding speaks of the stretched input; without transpose_kernel nothing is flipped',
      'y = lax.conv_transpose(', `    x, kernel, ${tuple(q.strides)}, ${pairText(pads)},`,
      `    rhs_dilation=${tuple(q.dilation)}, dimension_numbers=${dims}, transpose_kernel=True)`,
    ].join('\n');
  }
  if (uneven(q)) return perAxis;
  const call = pads => ['y = lax.conv_general_dilated(',
    `    x, kernel, ${tuple(q.strides)}, ${pads},`,
    `    rhs_dilation=${tuple(q.dilation)}, dimension_numbers=${dims},`,
    `    feature_group_count=${q.groups})`].join('\n');
  if (q.zeros || none(q.pairs)) return `from jax import lax\n\n${call(pairText(q.pairs))}`;
  return ['from jax import lax, numpy as jnp', '', ...padFirst(q, call('"VALID"'))].join('\n');
};

Code.Flax = function (s, solved) {
  const plain = Code.PLAIN.includes(s.kind);
  if (!plain && s.kind !== 'transposed') return composed('Flax', s);
  const q = parts(s, solved);
  const head = 'from flax import nnx\n\n';
  if (s.kind === 'transposed') {
    if (!q.zeros) return '# nnx.ConvTranspose knows zeros (and CIRCULAR) only.';
    if (q.groups > 1) return '# nnx.ConvTranspose has no groups.';
    const stage = solved.stages[0];
    const pads = q.pairs.map((p, i) => {
      const a = stage.axes[i], reach = Conv.dilated(a.k, a.d) - 1;
      const extra = a.n - ((stage.space[i] - 1) * a.s + reach + 1 - a.lo - a.hi);
      return [reach - p[0], reach - p[1] + extra];
    });
    return head + ['# padding speaks of the stretched input; transpose_kernel=True makes it the adjoint',
      'layer = nnx.ConvTranspose(', `    ${q.in}, ${q.out}, ${tuple(q.kernel)}, strides=${tuple(q.strides)},`,
      `    padding=${pairText(pads)}, kernel_dilation=${tuple(q.dilation)},`,
      '    transpose_kernel=True, use_bias=False, rngs=nnx.Rngs(0))', 'y = layer(x)'].join('\n');
  }
  if (uneven(q)) return perAxis;
  const call = pads => ['layer = nnx.Conv(',
    `    ${q.in}, ${q.out}, ${tuple(q.kernel)}, strides=${tuple(q.strides)}, padding=${pads},`,
    `    kernel_dilation=${tuple(q.dilation)}, feature_group_count=${q.groups},`,
    '    use_bias=False, rngs=nnx.Rngs(0))', 'y = layer(x)'].join('\n');
  if (q.zeros || none(q.pairs)) return head + call(pairText(q.pairs));
  return 'from jax import numpy as jnp\n' + head + padFirst(q, call('"VALID"')).join('\n');
};

Code.PyTorch = function (s, solved) {
  const plain = Code.PLAIN.includes(s.kind);
  if (s.kind === 'pixel_shuffle' && s.rank === 2 && same(s.scale)) {
    return `from torch.nn import functional as F\n\n# x is (N, C, H, W)\ny = F.pixel_shuffle(x, ${s.scale[0]})`;
  }
  if (s.kind === 'channel_shuffle') {
    return `from torch.nn import functional as F\n\n# x is (N, C, *space)\ny = F.channel_shuffle(x, ${s.groups})`;
  }
  if (!plain && s.kind !== 'transposed') return composed('PyTorch', s);
  const q = parts(s, solved), stage = solved.stages[0];
  const head = ['from torch.nn import functional as F', '',
    `# x is (N, C, ${['W', 'H, W', 'D, H, W'][s.rank - 1]}); weight is (${s.kind === 'transposed' ? 'I, O/G' : 'O, I/G'}, *K)`];
  const flat = pairs => tuple([...pairs].reverse().flat());
  const symmetric = all(q.pairs, p => p[0] === p[1] && p[0] >= 0);
  if (s.kind === 'transposed') {
    if (!q.zeros) return '# conv_transpose knows zeros only.';
    const extra = stage.axes.map((a, i) => a.n - ((stage.space[i] - 1) * a.s + Conv.dilated(a.k, a.d) - a.lo - a.hi));
    const tail = `dilation=${tuple(q.dilation)}, groups=${q.groups}`;
    if (symmetric && all(extra, (e, i) => e >= 0 && (e === 0 || e < stage.axes[i].s))) {
      return [...head, `y = F.conv_transpose${s.rank}d(`,
        `    x, weight, stride=${tuple(q.strides)}, padding=${tuple(q.pairs.map(p => p[0]))},`,
        `    output_padding=${tuple(extra)}, ${tail})`].join('\n');
    }
    const crop = q.pairs.map((p, i) => [-p[0], -p[1] + extra[i]]);
    return [...head, '# padding must be symmetric: compute all of it, then crop',
      `y = F.conv_transpose${s.rank}d(x, weight, stride=${tuple(q.strides)}, ${tail})`,
      `y = F.pad(y, ${flat(crop)})`].join('\n');
  }
  if (uneven(q)) return perAxis;
  const tail = `stride=${tuple(q.strides)}, dilation=${tuple(q.dilation)}, groups=${q.groups})`;
  if (!q.zeros && !TORCH_MODE[q.mode[0]]) return '# PyTorch has no symmetric mode: build the border by hand.';
  if (q.zeros && symmetric) {
    return [...head, `y = F.conv${s.rank}d(`,
      `    x, weight, padding=${tuple(q.pairs.map(p => p[0]))},`, `    ${tail}`].join('\n');
  }
  if (none(q.pairs)) return [...head, `y = F.conv${s.rank}d(x, weight, ${tail}`].join('\n');
  const mode = TORCH_MODE[q.mode[0]];
  return [...head, '# F.pad takes the last axis first',
    `x = F.pad(x, ${flat(q.pairs)}, mode="${mode}")`, `y = F.conv${s.rank}d(x, weight, ${tail}`].join('\n');
};

Code.Keras = function (s, solved) {
  const plain = Code.PLAIN.includes(s.kind);
  if (s.kind === 'depthwise_separable' && s.rank < 3 && s.padding === 'SAME' && all(s.mode, m => m === 'constant') &&
      same(s.strides) && (s.strides[0] === 1 || all(s.dilation, d => d === 1))) {
    return ['import keras', '', `layer = keras.layers.SeparableConv${s.rank}D(`,
      `    ${s.out}, ${tuple(s.kernel)}, strides=${s.strides[0]}, padding="same",`,
      `    dilation_rate=${tuple(s.dilation)}, depth_multiplier=${s.multiplier}, use_bias=False)`,
      'y = layer(x)'].join('\n');
  }
  if (!plain && s.kind !== 'transposed') return composed('Keras', s);
  const q = parts(s, solved);
  if (!all(q.strides, v => v === 1) && !all(q.dilation, v => v === 1)) {
    return '# Keras refuses strides and dilation above 1 at the same time.';
  }
  if (s.kind === 'transposed') {
    if (typeof s.padding !== 'string' || !['SAME', 'VALID'].includes(s.padding) || !q.zeros || q.groups > 1) {
      return '# Keras’ Conv*DTranspose knows "same" and "valid" only, zeros only, and no groups.';
    }
    return ['import keras', '', `layer = keras.layers.Conv${s.rank}DTranspose(`,
      `    ${q.out}, ${tuple(q.kernel)}, strides=${tuple(q.strides)}, padding="${s.padding.toLowerCase()}",`,
      `    dilation_rate=${tuple(q.dilation)}, use_bias=False)`,
      'y = layer(x)  # for kernels smaller than the stride, VALID is larger here'].join('\n');
  }
  if (uneven(q) || ['wrap', 'edge'].includes(q.mode[0])) return '# Keras’ ops.pad knows zeros, reflect and symmetric.';
  const call = pads => [`layer = keras.layers.Conv${s.rank}D(`,
    `    ${q.out}, ${tuple(q.kernel)}, strides=${tuple(q.strides)}, padding="${pads}",`,
    `    dilation_rate=${tuple(q.dilation)}, groups=${q.groups}, use_bias=False)`, 'y = layer(x)'];
  const head = ['import keras', ''];
  if (s.padding === 'SAME' && q.zeros) return [...head, ...call('same')].join('\n');
  if (none(q.pairs)) return [...head, ...call('valid')].join('\n');
  return [...head, `x = keras.ops.pad(x, ${padAll(q.pairs)}, mode="${q.mode[0]}")`, ...call('valid')].join('\n');
};

Code.of = (library, s, solved) => Code[library](s, solved);

if (typeof module !== 'undefined') module.exports = Code;
