"use strict";
// Narrows the table and opens its rows. The address says what is shown: #verdict=reject&q=blip, or #<id of a site>.
// Source text enters the page as text nodes only, never as markup.

const NARROW = matchMedia("(max-width: 64rem)");
const CONTEXT = 3;
const LONG = 6;
const TOKEN = /[rbfRBF]{0,2}("""|''')[\s\S]*?(?:\1|$)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#.*|\b(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from|global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|True|try|while|with|yield)\b/g;

const form = document.getElementById("tools");
const fields = ["q", "verdict", "model", "operation", "reason"].map((name) => form.elements[name]).filter(Boolean);
const rows = Array.from(document.querySelectorAll("#sites > tbody > tr"), (element, number) => ({
  element, number, link: element.querySelector("th > a"), detail: null, unfolded: new Set(),
  text: `${element.textContent} ${element.id}`.toLowerCase(),
}));
// What was verified of each row: its line of the table below.
const verified = new Map(Array.from(document.querySelectorAll("#verified tbody > tr"), (line) => [line.dataset.site, line]));
let parsed = null;

function data() {
  parsed ??= JSON.parse(document.getElementById("data").textContent);
  return parsed;
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Filters

function matches(row, words, chosen) {
  return words.every((word) => row.text.includes(word)) &&
    chosen.every(([name, value]) => ` ${row.element.dataset[name]} `.includes(` ${value} `));
}

function narrow() {
  const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = fields.filter((field) => field.name !== "q" && field.value).map((field) => [field.name, field.value]);
  let shown = 0;
  for (const row of rows) {
    const visible = matches(row, words, chosen);
    row.element.hidden = !visible;
    if (row.detail) row.detail.hidden = !visible || !isOpen(row);
    shown += visible;
  }
  form.elements.shown.value = `${shown} of ${rows.length}`;
  document.getElementById("nothing").hidden = shown > 0;
}

function remember() {
  const chosen = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, field.value]));
  history.replaceState(null, "", `#${chosen}`);
}

function follow() {
  const address = decodeURIComponent(location.hash.slice(1));
  const row = rows.find((each) => each.element.id === address);
  const chosen = new URLSearchParams(row ? "" : location.hash.slice(1));
  for (const field of fields) field.value = chosen.get(field.name) ?? "";
  narrow();
  if (row) open(row, true);
  if (address) (row?.element ?? form).scrollIntoView();
}

// Rows

const isOpen = (row) => row.link.getAttribute("aria-expanded") === "true";

function open(row, wanted) {
  row.link.setAttribute("aria-expanded", wanted);
  row.element.classList.toggle("open", wanted);
  if (wanted && !row.detail) {
    row.detail = make("tr", { class: "detail", role: "row", id: `detail-${row.number}` });
    row.link.setAttribute("aria-controls", row.detail.id);
    row.element.after(row.detail);
    draw(row);
  }
  if (row.detail) row.detail.hidden = !wanted;
}

function draw(row) {
  const site = data().sites[row.number];
  const facts = make("dl");
  let label = "at";
  for (const [name, said] of [["at", site.place], ...site.facts]) {
    if (name && name !== label) label = name;
    facts.append(make("dt", {}, name), make("dd", {}, ...spans(said)));
  }
  for (const [name, said] of verdict(row)) facts.append(make("dt", {}, name), make("dd", {}, said));
  const columns = row.element.children.length;
  row.detail.replaceChildren(make("td", { role: "cell", colspan: columns }, ...listings(row, site), facts));
}

function verdict(row) {
  const line = verified.get(row.element.id);
  const names = line ? Array.from(line.closest("table").tHead.rows[0].cells, (cell) => cell.textContent) : [];
  return names.map((name, at) => [name, line.cells[at].textContent]).slice(1).filter(([, said]) => said !== "–");
}

function spans(text) {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return [text];
  return parts.map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

// Source

function listings(row, site) {
  const found = [];
  if (site.original) {
    const lines = paired(site);
    const sides = !site.patched ? ["original"] : NARROW.matches ? ["both"] : ["original", "patched"];
    found.push(make("div", { class: sides.length > 1 ? "panes two" : "panes" },
      ...sides.map((side) => pane(row, site, side, lines))));
    if (site.patched) found.push(key(lines));
  } else {
    found.push(make("p", { class: "hint" }, "The source was not at hand when this page was made."));
  }
  for (const excerpt of site.elsewhere ?? []) {
    const lines = excerpt.text.map((number, at) => ({ o: excerpt.line + at, ot: data().lines[number], kind: "" }));
    found.push(make("div", { class: "panes" }, figure("Elsewhere in the file", excerpt, listed(site, "original", lines))));
  }
  return found;
}

// The lines of both sides: numbers o and p, texts ot and pt, null where a side has none.
function paired(site) {
  const lines = data().lines;
  const old = site.original.text.map((number) => lines[number]);
  const patched = site.patched ?? { line: 0, before: old.length, rows: [] };
  const found = [];
  let newAt = patched.line;
  const both = (at) => found.push({ o: site.original.line + at, ot: old[at], p: newAt++, pt: old[at], kind: "" });
  let at = 0;
  while (at < patched.before) both(at++);
  for (const [oldAt, number] of patched.rows) {
    const ot = oldAt < 0 ? null : old[at = oldAt];
    const pt = number < 0 ? null : lines[number];
    const kind = ot === null ? "added" : pt === null ? "removed" : ot !== pt ? "moved"
      : ot === "" && found.at(-1)?.kind === "moved" ? "moved" : "";
    found.push({ o: ot === null ? null : site.original.line + at, ot, p: pt === null ? null : newAt++, pt, kind });
    if (ot !== null) at++;
  }
  while (at < old.length) both(at++);
  return found;
}

function pane(row, site, side, lines) {
  const near = new Set();
  lines.forEach((line, at) => {
    if (line.kind || (!site.patched && (site.marks[line.o] || line.o === site.wrong))) {
      for (let other = at - CONTEXT; other <= at + CONTEXT; other++) near.add(other);
    }
  });
  const content = listed(site, side, lines);
  const shown = [];
  for (let at = 0; at < lines.length;) {
    let end = at;
    while (end < lines.length && !near.has(end)) end++;
    if (end - at >= LONG && !row.unfolded.has(at)) {
      shown.push(fold(row, at, end - at));
    } else {
      shown.push(...content.slice(at, end));
    }
    for (at = end; at < lines.length && near.has(at); at++) shown.push(content[at]);
  }
  const title = { original: "Original", patched: "Patched", both: "Original and patched" }[side];
  return figure(title, side === "original" ? site.original : site.patched, shown);
}

function fold(row, at, count) {
  const what = data().sites[row.number].patched ? "unchanged" : "more";
  const button = make("button", { type: "button", class: "fold" }, `${count} ${what} lines`);
  button.addEventListener("click", () => {
    row.unfolded.add(at);
    draw(row);
    row.detail.querySelector("pre").focus({ preventScroll: true });
  });
  return button;
}

function figure(title, excerpt, lines) {
  const label = `${title}, ${excerpt.path}`;
  return make("figure", {},
    make("figcaption", {}, make("b", {}, title), make("code", {}, `${excerpt.path}:${excerpt.line}`)),
    make("pre", { tabindex: "0", role: "region", "aria-label": label }, make("span", { class: "code" }, ...lines)));
}

// The lines of one side as elements, without the margin that they share; "both" has the patched text, and what was
// removed.
function listed(site, side, lines) {
  const pick = (line) => (side === "original" ? line.ot : side === "patched" ? line.pt : line.pt ?? line.ot);
  const margin = Math.min(...lines.map(pick).filter((text) => text?.trim()).map((text) => text.search(/\S/)));
  const colored = highlighted(lines.map((line) => (pick(line) ?? "").slice(margin)));
  return lines.map((line, at) => {
    if (pick(line) === null) return make("span", { class: "ln gap", "data-n": "" }, "\n");
    const number = side === "original" ? line.o : line.p ?? line.o;
    const wrong = line.o !== null && line.o === site.wrong ? "wrong" : "";
    const marks = side !== "patched" && line.o !== null ? site.marks[line.o] ?? [] : [];
    const element = make("span", { class: `ln ${line.kind} ${wrong}`.trim(), "data-n": number }, colored[at]);
    if (marks.length) element.append(make("mark", {}, marks.join(", ")));
    element.append("\n");
    return element;
  });
}

// Python in three colours, a fragment a line; strings may reach over lines.
function highlighted(lines) {
  const text = lines.join("\n");
  const fragments = [document.createDocumentFragment()];
  const place = (piece, kind) => piece.split("\n").forEach((part, at) => {
    if (at) fragments.push(document.createDocumentFragment());
    if (part) fragments.at(-1).append(kind ? make("span", { class: kind }, part) : part);
  });
  let done = 0;
  for (const found of text.matchAll(TOKEN)) {
    place(text.slice(done, found.index), "");
    const first = found[0][0];
    place(found[0], first === "#" ? "c" : /["']/.test(found[0]) ? "s" : "k");
    done = found.index + found[0].length;
  }
  place(text.slice(done), "");
  return fragments;
}

function key(lines) {
  const meanings = { added: "new", moved: "as it was, only indented", removed: "gone" };
  return make("ul", { class: "key" }, ...Object.entries(meanings)
    .filter(([kind]) => lines.some((line) => line.kind === kind))
    .map(([kind, meaning]) => make("li", { class: kind }, meaning)));
}

// Start

form.hidden = false;
document.documentElement.classList.add("ready");
if (verified.size) {
  const table = document.getElementById("sites");
  table.classList.add("verified");
  table.tHead.rows[0].append(make("th", { role: "columnheader", scope: "col" }, "Verified"));
}
for (const row of rows) {
  if (verified.size) {
    const said = verified.get(row.element.id)?.cells[2].textContent ?? "";
    row.element.append(make("td", { role: "cell", class: "passed" }, said));
  }
  row.link.setAttribute("aria-expanded", "false");
  row.element.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || (String(getSelection()) && event.target !== row.link)) return;
    event.preventDefault();
    open(row, !isOpen(row));
  });
}
form.addEventListener("input", () => { narrow(); remember(); });
// The event comes before the fields are empty.
form.addEventListener("reset", () => setTimeout(() => { narrow(); remember(); }));
form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
    event.preventDefault();
    form.elements.q.focus();
  }
});
NARROW.addEventListener("change", () => rows.filter((row) => row.detail).forEach(draw));
addEventListener("hashchange", follow);
follow();
