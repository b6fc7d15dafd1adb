/**
 * The one stylesheet. Served from here, so that pages need no inline style and no third party.
 *
 * Colours are named by their task, once for each scheme; a test computes the contrast of every pair that meets.
 *
 * @module
 */

/** The text of `/style.css`. */
export const STYLESHEET = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --panel: #ffffff; --sunk: #f2f0ea; --line: #e2dfd6; --edge: #837f74;
  --ink: #18211d; --soft: #545d58; --accent: #0d6b55; --strong: #094f3f; --on-accent: #ffffff; --tint: #e4f2ec; --coin: #d9972a;
  --wide: 66rem; --gap: clamp(1rem, 4vw, 2rem); --round: .75rem;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f1513; --panel: #17201d; --sunk: #1c2723; --line: #2b3833; --edge: #74857d;
    --ink: #e9efec; --soft: #a5b3ac; --accent: #63d3b2; --strong: #8fe3ca; --on-accent: #04231a; --tint: #17362d; --coin: #e8b04a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0 auto; padding: 0 var(--gap); max-width: calc(var(--wide) + 2 * var(--gap));
  font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere;
}
p, ul, ol, dl, dd, figure { margin: 0; }
p + p, p + ol, p + ul, p + pre, pre + p { margin-top: .9rem; }
h1 { font-size: clamp(2rem, 1.3rem + 3vw, 3.1rem); line-height: 1.1; letter-spacing: -.022em; margin: 0; text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; letter-spacing: -.01em; margin: 0; text-wrap: balance; }
a { color: var(--accent); text-underline-offset: .18em; text-decoration-thickness: .07em; }
a:hover { color: var(--strong); text-decoration-thickness: .13em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: .25rem; }
.quiet { color: var(--soft); font-size: .94rem; }
.lead { font-size: clamp(1.1rem, 1rem + .5vw, 1.28rem); line-height: 1.5; color: var(--soft); margin-top: 1rem; max-width: 36rem; text-wrap: pretty; }

.skip { position: absolute; left: -99rem; padding: .5rem 1rem; background: var(--panel); }
.skip:focus { left: 1rem; top: .5rem; z-index: 1; }
header { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: .25rem 1.5rem; padding: 1.25rem 0; }
.brand { display: inline-flex; gap: .6rem; align-items: center; min-height: 2rem; font-weight: 650; color: var(--ink); text-decoration: none; }
.brand svg { flex: none; }
.coin { fill: var(--coin); }
.pool { fill: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 0 1.25rem; }
nav a, .links a { display: inline-block; padding: .3rem 0; }
nav a { color: var(--soft); text-decoration: none; }
nav a:hover { text-decoration: underline; }

.hero { display: grid; gap: 2.25rem clamp(2rem, 6vw, 4.5rem); align-items: center; padding: clamp(1.5rem, 5vw, 3.75rem) 0 clamp(2.5rem, 6vw, 4.5rem); }
.hero > * { min-width: 0; }
.ticks { list-style: none; padding: 0; margin-top: 1.5rem; display: grid; gap: .4rem; }
.ticks li { display: flex; gap: .65rem; align-items: baseline; }
.ticks li::before { content: ""; flex: none; width: .9rem; height: .45rem; border: solid var(--accent); border-width: 0 0 .16rem .16rem; transform: translateY(-.2rem) rotate(-45deg); }
.panel { padding: 1.25rem clamp(1rem, 4vw, 1.6rem); background: var(--panel); border: 1px solid var(--line); border-radius: var(--round); }
.panel h2 + p { margin-top: .5rem; }
.panel ol, .panel ul { padding-left: 1.3rem; }
.panel li { margin-top: .6rem; }

fieldset { border: 0; padding: 0; margin: 0; display: grid; gap: .5rem; min-width: 0; }
legend { font-weight: 650; font-size: 1.1rem; line-height: 1.35; padding: 0 0 .85rem; }
label { display: flex; gap: .7rem; align-items: center; padding: .55rem .9rem; border: 1px solid var(--edge); border-radius: .5rem; cursor: pointer; }
label b, label span { white-space: nowrap; }
label span { margin-left: auto; color: var(--soft); font-size: .94rem; font-variant-numeric: tabular-nums; }
label:hover { border-color: var(--accent); }
label:has(:checked) { border-color: var(--accent); background: var(--tint); box-shadow: inset 0 0 0 1px var(--accent); }
label:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: 3px; }
input[type=radio] { width: 1.15rem; height: 1.15rem; margin: 0; flex: none; accent-color: var(--accent); }
input[type=radio]:focus-visible { outline: none; }
button, .button {
  display: inline-block; font: inherit; font-weight: 650; line-height: 1.4; padding: .75rem 1.4rem; border-radius: .5rem; cursor: pointer;
  border: 1px solid transparent; background: var(--accent); color: var(--on-accent); text-decoration: none; text-align: center; transition: background .15s;
}
button:hover, .button:hover { background: var(--strong); color: var(--on-accent); }
.plain { background: none; color: var(--accent); border-color: var(--edge); }
.plain:hover { background: var(--tint); color: var(--strong); }
.donate button { width: 100%; margin-top: 1.1rem; }
.donate .quiet { margin-top: .75rem; text-align: center; text-wrap: balance; }

.row { padding: clamp(1.75rem, 4vw, 2.75rem) 0; border-top: 1px solid var(--line); }
.row > div { margin-top: 1rem; min-width: 0; }
.row > div > p { max-width: 42rem; }
.note { margin-top: 1.5rem; padding-left: 1rem; border-left: 3px solid var(--accent); }
.figures { display: grid; grid-template-columns: repeat(2, 1fr); gap: 1.25rem 1.5rem; }
.figures div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.figures dt { color: var(--soft); font-size: .94rem; line-height: 1.35; }
.figures dd { font-size: clamp(1.6rem, 1.2rem + 1.6vw, 2.15rem); line-height: 1.25; font-weight: 650; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.charts { display: grid; gap: 2rem 2.5rem; margin-top: 2.25rem; }
.chart figcaption { font-weight: 650; font-size: 1rem; margin-bottom: .6rem; }
.chart svg { display: block; width: 100%; height: auto; }
.bars { fill: var(--accent); }
.now { fill: var(--tint); stroke: var(--accent); }
.base { stroke: var(--edge); }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: .875rem; margin-top: .3rem; }
.chart summary { font-size: .94rem; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .94rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .25rem 0 .6rem; }
th, td { text-align: left; padding: .2rem 0; border-bottom: 1px solid var(--line); font-weight: 400; }
th { font-weight: 650; }
th + th, td + td { text-align: right; }

.terms dt { font-weight: 650; }
.terms { display: grid; gap: 1.5rem 2.5rem; }
.terms dd { margin-top: .2rem; max-width: 40rem; }
.stored { padding-left: 1.15rem; columns: auto 17rem; column-gap: 2.5rem; }
.stored li { break-inside: avoid; padding: .1rem 0; }
.stored + p { margin-top: .7rem; }
.stored ::marker { color: var(--edge); }
.screen { display: grid; gap: 1.5rem 2.5rem; align-items: start; }
.sketch { padding: 1.1rem 1.25rem; border: 1px dashed var(--edge); border-radius: var(--round); font-size: .94rem; line-height: 1.45; }
.sketched { display: flex; gap: .6rem; justify-content: flex-end; }
.sketched span { padding: .25rem .8rem; border: 1px solid var(--line); border-radius: .4rem; }
.sketched span:last-child { border-color: var(--edge); }
figcaption.quiet { margin-top: .5rem; }
.consumers { list-style: none; padding: 0; display: grid; gap: .75rem; }
.consumers a { font-weight: 650; }
.consumers span { display: block; color: var(--soft); }
.questions details { border-bottom: 1px solid var(--line); }
.questions details:first-child summary { padding-top: .1rem; }
.questions p { padding: 0 0 1.1rem 1.5rem; max-width: 42rem; }
summary { cursor: pointer; padding: .7rem 0; min-height: 1.75rem; }
.questions summary { font-weight: 600; display: flex; gap: .8rem; align-items: baseline; list-style: none; }
.questions summary::-webkit-details-marker { display: none; }
.questions summary::before { content: ""; flex: none; width: .45rem; height: .45rem; margin: 0 .15rem 0 .1rem; border: solid var(--accent); border-width: 0 .14rem .14rem 0; transform: translateY(-.1rem) rotate(-45deg); transition: transform .15s; }
.questions [open] > summary::before { transform: translateY(-.2rem) rotate(45deg); }
summary:hover { color: var(--accent); }

code, pre { font: .9em/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--sunk); border-radius: .3rem; overflow-wrap: anywhere; }
code { padding: .1em .3em; }
pre { padding: 1rem 1.2rem; border: 1px solid var(--line); border-radius: var(--round); white-space: pre-wrap; margin: 0; }
pre code { padding: 0; background: none; font-size: 1em; user-select: all; }
.block { display: block; padding: .5rem .75rem; margin-top: .5rem; user-select: all; }

.narrow { max-width: 42rem; padding: clamp(1.5rem, 6vw, 4rem) 0; }
.narrow > p, .narrow > ol, .narrow > dl, .narrow > form { margin-top: 1.5rem; }
.narrow > .lead { margin-top: 1rem; max-width: none; }
.narrow h1 { font-size: clamp(1.9rem, 1.4rem + 2vw, 2.6rem); }
.steps { padding-left: 1.4rem; display: grid; gap: .35rem; }
.steps ::marker { color: var(--soft); }
footer { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .5rem 2rem; padding: 1.5rem 0 3rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .94rem; }
footer p { margin: 0; padding: .3rem 0; }
.links { display: flex; flex-wrap: wrap; gap: 0 1.25rem; padding: 0; }

@media (min-width: 40rem) {
  .figures { grid-template-columns: repeat(4, auto); justify-content: space-between; }
  .charts, .terms:not(.single) { grid-template-columns: 1fr 1fr; }
  .whole { grid-column: 1 / -1; }
  .terms .whole dd { max-width: none; }
}
@media (min-width: 60rem) {
  .hero { grid-template-columns: 1fr 25rem; }
  .hero.closed { grid-template-columns: 1fr 30rem; align-items: start; }
  .row { display: grid; grid-template-columns: 15rem 1fr; gap: 3rem; }
  .row > div { margin-top: 0; }
  .screen { grid-template-columns: 1fr 19rem; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (forced-colors: active) {
  button, .button { border-color: ButtonText; }
  label:has(:checked) { outline: 2px solid Highlight; }
  .bars, .coin { fill: CanvasText; } .pool { fill: LinkText; } .now { fill: Canvas; stroke: CanvasText; } .base { stroke: CanvasText; }
}
@media print {
  body { font-size: 11pt; max-width: none; color: #000; background: #fff; }
  nav, form, .skip, .hero .ticks { display: none; }
  .row { break-inside: avoid; }
  .questions details::details-content { content-visibility: visible; block-size: auto; }
  .row a[href^=http]::after { content: " (" attr(href) ")"; font-size: .85em; }
}
`;
