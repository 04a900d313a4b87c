// Pictures with text, for models that look for it: photos behind, lines of print before them. On random noise a text
// detector answers with values near 0 everywhere, where onnxruntime's sigmoid has steps of 2^-23: a relative error then
// measures those steps.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readPicture } from "../dist/demo/image.js";
import { decodeJpeg } from "../dist/reference/images/jpeg.js";

const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** Photos of ../shared, unpacked once; none when they are not here. */
function photos(root) {
  const archive = join(root, "../shared/data/imagenet-sample.tar");
  const folder = join(root, ".cache/imagenet-sample");
  if (!existsSync(folder)) {
    if (!existsSync(archive)) return [];
    mkdirSync(folder, { recursive: true });
    spawnSync("tar", ["xf", archive, "-C", folder]);
  }
  return readdirSync(folder).filter((name) => name.endsWith(".jpg")).sort().slice(0, 8).map((name) => join(folder, name));
}

/** Photos have three bytes a pixel, the line four. */
const bytesOf = (picture) => picture.rgb ?? picture.data;
const channelsOf = (picture) => bytesOf(picture).length / (picture.width * picture.height);

/** Normalised pixels [batch, 3, height, width]: a photo per image, stretched, and the demo's line again and again down the left side. */
export function textPictures(root, [batch, , height, width]) {
  const line = readPicture(join(root, "demo/line.png"));
  const behind = photos(root);
  const scale = Math.max(1, Math.ceil((line.width * 1.1) / width));
  const values = new Float32Array(batch * 3 * height * width);
  for (let b = 0; b < batch; b++) {
    const photo = behind.length > 0 ? decodeJpeg(readFileSync(behind[b % behind.length])) : line;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < 3; c++) {
      const [u, v] = [x * scale, (y % Math.ceil((line.height * 2) / scale)) * scale];
      const inLine = u < line.width && v < line.height;
      const source = inLine ? line : photo;
      const [sx, sy] = inLine ? [u, v] : [Math.floor((x * photo.width) / width), Math.floor((y * photo.height) / height)];
      const level = bytesOf(source)[(sy * source.width + sx) * channelsOf(source) + Math.min(c, channelsOf(source) - 1)];
      values[((b * 3 + c) * height + y) * width + x] = (level / 255 - MEAN[c]) / DEVIATION[c];
    }
  }
  return values;
}
