/**
 * Draws the picture that goes with a shared link, and writes it to views/og_image.ts: `deno run -A tests/art/og_image.ts`.
 *
 * Readers of Open Graph take no SVG, so Chromium renders it, and what comes out is written as a PNG of twelve colours,
 * which is a tenth of the size.
 *
 * @module
 */

import assert from "node:assert/strict";
import { crc32, deflateSync } from "node:zlib";
import { findChromium, launch } from "../support/chromium.ts";

const [WIDTH, HEIGHT] = [1200, 630];

/** The source of the picture. */
const SVG =
  `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}">
<rect width="1200" height="630" fill="#fbfaf7"/>
<circle cx="950" cy="280" r="112" fill="#e0a12e"/>
<path d="M700 370q62.5-64 125 0t125 0 125 0 125 0v260H700z" fill="#0d6b55"/>
<path d="M700 370q62.5-64 125 0t125 0 125 0 125 0v60q-62.5 64-125 0t-125 0-125 0-125 0z" fill="#17826a"/>
<g font-family="DejaVu Sans, Verdana, sans-serif" fill="#18211d">
<text x="80" y="120" font-size="30" font-weight="700">GitHub Token Pool</text>
<g font-size="62" font-weight="700" letter-spacing="-2"><text x="80" y="260">Lend the</text>
<text x="80" y="340">GitHub calls that</text><text x="80" y="420">you do not use</text></g>
<text x="80" y="530" font-size="28" fill="#545d58">Public data only. Leave at any time.</text></g></svg>`;

/** The pixels of the picture, as 0xRRGGBB. */
async function render(): Promise<number[]> {
  const path = findChromium();
  assert.ok(path !== null, "set CHROMIUM_PATH to a Chromium");
  const browser = await launch(path);
  try {
    const page = await browser.newPage();
    const draw = `(async () => {
      const image = new Image();
      image.src = "data:image/svg+xml," + encodeURIComponent(${JSON.stringify(SVG)});
      await image.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: ${WIDTH}, height: ${HEIGHT} });
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, ${WIDTH}, ${HEIGHT});
      return Array.from({ length: data.length / 4 }, (_, n) => data[4 * n] << 16 | data[4 * n + 1] << 8 | data[4 * n + 2]);
    })()`;
    return await page.evaluate(draw) as number[];
  } finally {
    await browser.close();
  }
}

/** The twelve most frequent colours (four bits could name sixteen), and for every colour the nearest of them. */
function reduce(pixels: number[]): { palette: number[]; indexOf: Map<number, number> } {
  const counts = new Map<number, number>();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const palette = [...counts].sort(([, a], [, b]) => b - a).slice(0, 12).map(([color]) => color);
  const parts = (color: number) => [color >> 16, color >> 8 & 255, color & 255] as const;
  const distance = (a: number, b: number) =>
    parts(a).reduce((sum, value, index) => sum + (value - parts(b)[index]!) ** 2, 0);
  const nearest = (color: number) =>
    palette.reduce((best, one, index) => distance(one, color) < distance(palette[best]!, color) ? index : best, 0);
  return { palette, indexOf: new Map([...counts.keys()].map((color) => [color, nearest(color)])) };
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const named = new Uint8Array([...new TextEncoder().encode(type), ...data]);
  return new Uint8Array([...bigEndian(data.length), ...named, ...bigEndian(crc32(named))]);
}

function bigEndian(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

function encode(pixels: number[]): Uint8Array {
  const { palette, indexOf } = reduce(pixels);
  const rows = new Uint8Array((WIDTH / 2 + 1) * HEIGHT);
  for (const [at, pixel] of pixels.entries()) {
    const [x, y] = [at % WIDTH, Math.floor(at / WIDTH)];
    rows[y * (WIDTH / 2 + 1) + 1 + (x >> 1)]! |= indexOf.get(pixel)! << (x % 2 === 0 ? 4 : 0);
  }
  const header = [...bigEndian(WIDTH), ...bigEndian(HEIGHT), 4, 3, 0, 0, 0];
  return new Uint8Array([
    ...[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
    ...chunk("IHDR", new Uint8Array(header)),
    ...chunk("PLTE", new Uint8Array(palette.flatMap((color) => [color >> 16, color >> 8 & 255, color & 255]))),
    ...chunk("IDAT", deflateSync(rows, { level: 9 })),
    ...chunk("IEND", new Uint8Array()),
  ]);
}

if (import.meta.main) {
  const text = (await render().then(encode)).toBase64().replace(/.{1,110}/g, (line) => `  "${line}" +\n`).trim()
    .replace(/ \+$/, ";");
  const source = `/**
 * The picture that goes with a shared link, as a PNG in base64. Drawn by tests/art/og_image.ts: change it there.
 *
 * @module
 */

/** 1200 by 630 pixels. */
export const OG_IMAGE: string =
  ${text}
`;
  await Deno.writeTextFile(new URL("../../views/og_image.ts", import.meta.url), source);
}
