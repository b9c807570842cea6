// Runs the script of a report's page on a stand-in for a browser's document, and prints as JSON what it drew: by the text of each
// heading a list of its charts, each the colours of the lines that have points.
"use strict";
const fs = require("fs");
const vm = require("vm");

class Node {
  constructor(name) { Object.assign(this, { name, attributes: {}, children: [], style: {} }); }
  setAttribute(key, value) { this.attributes[key] = String(value); }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  addEventListener() {}
  getBoundingClientRect() { return { left: 0, width: 1000 }; }
  get text() { return this.children.map(child => child instanceof Node ? child.text : String(child)).join(""); }
  all(name) {
    const nodes = this.children.filter(child => child instanceof Node);
    return nodes.flatMap(node => [...(node.name === name ? [node] : []), ...node.all(name)]);
  }
}

const html = fs.readFileSync(process.argv[2], "utf8");
const [data, script] = [...html.matchAll(/<script[^>]*>([^]*?)<\/script>/g)].map(found => found[1]);
const page = new Node("div");
const known = { data: { textContent: data }, page };
const document = { getElementById: id => known[id], createElement: name => new Node(name), createElementNS: (_, name) => new Node(name) };
vm.runInNewContext(script, { document, Intl });

const drawn = {};
let charts;
for (const child of page.children) {
  if (child.name === "h2") drawn[child.text] = charts = [];
  if (!charts) continue;
  const boxes = [child, ...child.all("div")].filter(box => box.attributes.class === "chart");
  for (const box of boxes) {
    const lines = box.all("path").filter(path => /L/.test(path.attributes.d || ""));
    charts.push(lines.map(path => path.attributes.stroke));
  }
}
console.log(JSON.stringify(drawn));
