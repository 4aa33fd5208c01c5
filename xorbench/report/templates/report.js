"use strict";
// Sorting and filtering of tables; the page is complete without this script.
const order = new Intl.Collator("en", { numeric: true });
const numberIn = (text) => parseFloat(text.replaceAll(",", ""));

function sortBy(table, header, index) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  const numeric = header.classList.contains("number");
  const rows = [...table.tBodies[0].rows];
  const text = (row) => row.cells[index].textContent;
  const compare = (a, b) =>
    numeric ? numberIn(text(a)) - numberIn(text(b)) : order.compare(text(a), text(b));
  const empty = (row) => (text(row) === "" ? 1 : 0); // empty cells stay last, either way
  rows.sort((a, b) => empty(a) - empty(b) || (descending ? compare(b, a) : compare(a, b)));
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((header, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sortBy(table, header, index));
    header.replaceChildren(button);
    header.setAttribute("aria-sort", "none");
  });
}

function makeFilterable(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 12) return; // short tables need no filter
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("span");
  label.className = "filter";
  input.type = "search";
  count.setAttribute("aria-live", "polite");
  label.append("Filter ", input, count);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  });
  table.parentElement.before(label);
}

for (const table of document.querySelectorAll("table.live")) {
  makeSortable(table);
  makeFilterable(table);
}
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
});
