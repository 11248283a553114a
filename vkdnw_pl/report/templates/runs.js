"use strict";
(() => {
  const root = document.documentElement;

  // Light, dark, or as the system has it.
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("vkdnw-theme");
      localStorage.setItem("vkdnw-theme", value);
    } catch (error) { /* a page from a file may have no storage */ }
    return null;
  };
  const show = (theme) => {
    if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = "Colours: " + theme;
  };
  let theme = themes.includes(stored()) ? stored() : "auto";
  show(theme);
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    stored(theme);
    show(theme);
  });

  // Tables: every heading with data-sort becomes a button.
  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    if (!numeric) return text.toLowerCase();
    const number = text === "" ? NaN : Number.parseFloat(text.replaceAll(",", "").replace("−", "-"));
    return number;
  };
  const sort = (table, head, column) => {
    const numeric = head.dataset.sort === "number";
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const order = before === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    for (const one of table.querySelectorAll("th[data-sort]")) one.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, place) => ({ row, place, key: key(row, column, numeric) }));
    const missing = (one) => one.key === "" || Number.isNaN(one.key);
    rows.sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b) || a.place - b.place; // last in both orders
      if (a.key === b.key) return a.place - b.place;
      return (a.key < b.key ? -1 : 1) * sign;
    });
    body.append(...rows.map((one) => one.row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.querySelectorAll("th[data-sort]")) {
      const column = Number(head.dataset.column);
      const inner = document.createElement("button");
      inner.type = "button";
      inner.append(...head.childNodes);
      head.append(inner);
      head.setAttribute("aria-sort", "none");
      inner.addEventListener("click", () => sort(table, head, column));
    }
  }

  // A field that leaves only the rows of a table that contain its words.
  for (const field of document.querySelectorAll("input[data-filter]")) {
    const table = document.getElementById(field.dataset.filter);
    const count = document.getElementById(field.dataset.filter + "-count");
    field.closest("p").hidden = false;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += !row.hidden;
      }
      count.textContent = words.length ? left + " of " + table.tBodies[0].rows.length + " rows" : "";
    });
  }

  // What is folded is printed too.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
})();
