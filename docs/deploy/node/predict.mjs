// Classify photographs with an exported file in Node. Without a photograph, check the golden images.
//   npm install --ignore-scripts onnxruntime-node sharp    (the script of onnxruntime-node would fetch CUDA; sharp decodes photographs)
//   node predict.mjs runs/001-custom-cnn/export [PHOTO...]
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as ort from "onnxruntime-node";

const [folder = ".", ...photos] = process.argv.slice(2);
const read = (...names) => JSON.parse(readFileSync(join(folder, ...names), "utf8"));
const model = read("model.json");
if (model.input.kind !== "images" || model.outputs[0].name !== "probabilities") {
  console.error(`${model.file} takes ${model.input.kind} and returns ${model.outputs[0].name}; export with --input images --output probabilities`);
  process.exit(1);
}
const session = await ort.InferenceSession.create(join(folder, model.file));

// Return the probabilities of one image: RGB bytes, row by row, of any size.
async function classify(pixels, height, width) {
  const images = new ort.Tensor("uint8", Uint8Array.from(pixels), [1, height, width, 3]);
  return Array.from((await session.run({ images })).probabilities.data);
}

function print(name, probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  console.log(name, model.classes[best], ...probabilities.map((value) => value.toFixed(8)));
}

for (const photo of photos) {
  const { default: sharp } = await import("sharp");
  const decoded = sharp(photo).rotate().toColourspace("srgb").removeAlpha().raw(); // rotate(): upright by EXIF
  const { data, info } = await decoded.toBuffer({ resolveWithObject: true });
  print(photo, await classify(data, info.height, info.width));
}

if (photos.length === 0) {
  const golden = read("golden", "golden.json");
  let largest = 0;
  for (const image of golden.images) {
    const found = await classify(readFileSync(join(folder, "golden", image.pixels)), image.height, image.width);
    print(image.file, found);
    largest = Math.max(largest, ...found.map((value, index) => Math.abs(value - image.probabilities[index])));
  }
  console.log(`largest difference from golden.json: ${largest.toExponential(1)}`);
  if (!(largest <= golden.tolerance)) process.exitCode = 1;
}
