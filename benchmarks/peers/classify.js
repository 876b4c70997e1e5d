// Measures one of the Node packages' emotion classifiers, as benchmarks/run_classifier.py does those of Python:
//   NODE_PATH=.peers/node/node_modules node classify.js human|face-api --crops FILE.npy [--scores FILE.csv]
//       [--times FILE.json --batches 1 16] --threads 1
// Both packages run in TensorFlow.js' WebAssembly backend: its native one downloads a library when it is installed.
'use strict';
const fs = require('fs');
const path = require('path');
const { performance } = require('perf_hooks');

const SECONDS = 1.0;
const LEAST_CALLS = 5;
const MODULES = path.resolve(process.env.NODE_PATH || 'node_modules');

function parseArguments(words) {
  const options = { name: words[0], batches: [], threads: 1 };
  for (let i = 1; i < words.length; i += 1) {
    const key = words[i].replace(/^--/, '');
    const values = [];
    while (i + 1 < words.length && !words[i + 1].startsWith('--')) values.push(words[(i += 1)]);
    options[key] = key === 'batches' ? values.map(Number) : values[0];
  }
  return options;
}

// (N, S, S, 3) uint8 in C order
function readCrops(file) {
  const data = fs.readFileSync(file);
  const start = data[6] === 1 ? 10 : 12;
  const length = data[6] === 1 ? data.readUInt16LE(8) : data.readUInt32LE(8);
  const header = data.toString('latin1', start, start + length);
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(',').map(Number);
  if (!/'descr': '\|u1'/.test(header) || shape.length !== 4) throw new Error(`${file}: not (N, S, S, 3) uint8`);
  const [count, side] = shape;
  const size = side * side * 3;
  const crops = [];
  for (let i = 0; i < count; i += 1) {
    const from = start + length + i * size;
    crops.push(new Uint8Array(data.buffer, data.byteOffset + from, size));
  }
  return { crops, side };
}

// human 3.3.6, src/gear/emotion.ts: the same steps on its own network, one face at a time
async function loadHuman(tf, side) {
  const folder = path.join(MODULES, '@vladmandic/human/models');
  const model = JSON.parse(fs.readFileSync(path.join(folder, 'emotion.json'), 'utf-8'));
  const weights = fs.readFileSync(path.join(folder, 'emotion.bin'));
  const network = await tf.loadGraphModel({
    load: async () => ({
      modelTopology: model.modelTopology,
      weightSpecs: model.weightsManifest.flatMap((group) => group.weights),
      weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.byteLength),
      signature: model.signature,
      userDefinedMetadata: model.userDefinedMetadata,
    }),
  });
  const inputSize = network.inputs[0].shape[2];
  const grey = tf.tensor1d([0.2989, 0.587, 0.114]);
  const one = (crop) => {
    const output = tf.tidy(() => {
      const image = tf.tensor4d(Float32Array.from(crop), [1, side, side, 3]).div(255);
      const resized = tf.image.resizeBilinear(image, [inputSize, inputSize], false);
      return network.execute(resized.mul(grey).sum(3, true).sub(0.5).mul(2));
    });
    const row = Array.from(output.dataSync());
    output.dispose();
    return row;
  };
  // the package's own names and order; whoever reads the csv goes by the names
  const labels = ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'];
  return { labels, classify: async (crops) => crops.map(one) };
}

// face-api 1.7.15: predictExpressions on a batch
async function loadFaceApi(tf, side) {
  const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
  await faceapi.nets.faceExpressionNet.loadFromDisk(path.join(MODULES, '@vladmandic/face-api/model'));
  const labels = ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgusted', 'surprised'];
  const classify = async (crops) => {
    const tensors = crops.map((crop) => tf.tensor3d(Float32Array.from(crop), [side, side, 3]));
    const found = await faceapi.nets.faceExpressionNet.predictExpressions(tensors);
    tensors.forEach((tensor) => tensor.dispose());
    return found.map((face) => labels.map((label) => face[label]));
  };
  return { labels, classify };
}

async function msPerFace(classify, crops, batch) {
  const take = (first) => Array.from({ length: batch }, (_, i) => crops[(first + i) % crops.length]);
  await classify(take(0));
  const times = [];
  const end = performance.now() + 1000 * SECONDS;
  while (times.length < LEAST_CALLS || performance.now() < end) {
    const chosen = take(times.length * batch);
    const start = performance.now();
    await classify(chosen);
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const middle = times.length >> 1;
  return (times.length % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2) / batch;
}

function write(file, text) {
  fs.writeFileSync(`${file}.tmp`, text);
  fs.renameSync(`${file}.tmp`, file);
}

async function main() {
  const options = parseArguments(process.argv.slice(2));
  const loaders = { human: loadHuman, 'face-api': loadFaceApi };
  if (!loaders[options.name]) throw new Error(`unknown classifier ${options.name}; known are ${Object.keys(loaders).join(', ')}`);
  const tf = require('@tensorflow/tfjs');
  const wasm = require('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(path.join(MODULES, '@tensorflow/tfjs-backend-wasm/dist') + path.sep);
  wasm.setThreadsCount(Number(options.threads));
  await tf.setBackend('wasm');
  await tf.ready();
  const { crops, side } = readCrops(options.crops);
  const { labels, classify } = await loaders[options.name](tf, side);
  if (options.scores) {
    const lines = [`name,${labels.join(',')}`];
    for (let i = 0; i < crops.length; i += 64) {
      const rows = await classify(crops.slice(i, i + 64));
      rows.forEach((row, j) => lines.push(`${i + j},${row.map((p) => p.toPrecision(6)).join(',')}`));
    }
    write(options.scores, `${lines.join('\n')}\n`);
  }
  if (options.times) {
    const times = {};
    for (const batch of options.batches) times[batch] = await msPerFace(classify, crops, batch);
    write(options.times, JSON.stringify({ ms: times, precision: null }));
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(`classify.js: ${error.message}`);
  process.exit(2);
});
