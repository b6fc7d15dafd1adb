/**
 * The one stylesheet. Served from here, so that pages need no inline style and no third party.
 *
 * @module
 */

/** The text of `/style.css`. */
export const STYLESHEET = `
:root {
  color-scheme: light dark;
  --ink: #1c2128; --soft: #57606a; --line: #d0d7de; --paper: #ffffff; --panel: #f6f8fa; --accent: #0b5cad; --on-accent: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --soft: #9da7b3; --line: #3d444d; --paper: #0d1117; --panel: #161b22; --accent: #6cb0ff; --on-accent: #0d1117;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 44rem;
  font: 1.0625rem/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere;
}
header nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; align-items: baseline; }
header nav a { padding: 0.25rem 0; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 2rem 0 0.75rem; text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.25rem 0 0.5rem; }
a { color: var(--accent); text-underline-offset: 0.15em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: 2px; }
.panel > h2:first-child { margin-top: 0; }
dt { font-weight: 600; margin-top: 0.9rem; }
dd { margin: 0.1rem 0 0; color: var(--soft); }
.lead { font-size: 1.2rem; color: var(--soft); margin-top: 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; padding: 1rem 1.25rem; background: var(--panel); border: 1px solid var(--line); border-radius: 0.5rem; margin: 1.5rem 0; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { font-weight: 400; font-size: 0.9rem; color: var(--soft); margin: 0; }
.figures dd { font-size: 1.6rem; line-height: 1.3; color: var(--ink); margin: 0; font-variant-numeric: tabular-nums; }
form, .panel { padding: 1rem 1.25rem 1.25rem; border: 1px solid var(--line); border-radius: 0.5rem; margin: 1.25rem 0; background: var(--panel); }
fieldset { border: 0; padding: 0; margin: 0 0 1rem; }
legend { font-weight: 600; padding: 0; }
label { display: flex; gap: 0.6rem; align-items: baseline; padding: 0.3rem 0; }
input[type="radio"] { width: 1.1rem; height: 1.1rem; accent-color: var(--accent); flex: none; transform: translateY(0.15rem); }
button, .button {
  display: inline-block; font: inherit; font-weight: 600; padding: 0.6rem 1.2rem; border-radius: 0.4rem; cursor: pointer;
  border: 1px solid transparent; background: var(--accent); color: var(--on-accent); text-decoration: none;
}
code, pre { font: 0.9em/1.5 ui-monospace, monospace; background: var(--panel); }
pre { padding: 0.9rem 1rem; border: 1px solid var(--line); border-radius: 0.5rem; white-space: pre-wrap; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 0.95rem; }
@media (forced-colors: active) { button, .button { border-color: ButtonText; } }
@media print { header nav, form { display: none; } }
`;
