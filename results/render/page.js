"use strict";
// Without this script the page lacks sorting and nothing else.
const words = new Intl.Collator("en", {numeric: true});

function compare(numeric, sign) {
  return (a, b) => {
    if (a.value === "" || b.value === "") return (a.value === "") - (b.value === "");  // nothing comes last, always
    return sign * (numeric ? Number(a.value) - Number(b.value) : words.compare(a.value, b.value));
  };
}

function makeSortable(table) {
  const body = table.tBodies[0], first = [...body.rows], headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const numeric = heading.classList.contains("number");
    const order = heading.dataset.best === "high" ? ["descending", "ascending"] : ["ascending", "descending"];
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = order[order.indexOf(heading.getAttribute("aria-sort")) + 1];
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (!next) return body.append(...first);
      heading.setAttribute("aria-sort", next);
      const rows = first.map((row) => ({row, value: row.cells[column].dataset.value}));
      rows.sort(compare(numeric, next === "ascending" ? 1 : -1));
      body.append(...rows.map((entry) => entry.row));
    });
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
