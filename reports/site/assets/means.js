/* The table of all means; its data are columns, see means.py. */

"use strict";

(function () {
  const { size, texts, numbers, protocols } = siteData.means;
  const table = document.getElementById("means");
  const form = document.querySelector("form.filters");
  const columns = [...table.tHead.rows[0].cells].map((head) => head.dataset.column);
  const units = new Map(protocols.map(([name, unit, digits, text]) => [name, { unit, digits, text }]));
  const value = (row, column) =>
    column in texts ? texts[column].values[texts[column].codes[row]] : numbers[column][row];
  const searched = Object.values(texts).map(({ values, codes }) => [values.map((text) => text.toLowerCase()), codes]);

  function cell(row, column) {
    const { digits } = units.get(value(row, "protocol"));
    if (column === undefined) {
      const [low, high, sd] = ["low", "high", "sd"].map((name) => numbers[name][row]?.toFixed(digits));
      const ends = low === undefined ? value(row, "interval") : `[${low}, ${high}]`;
      return make("td", { className: "number interval" }, sd === undefined ? ends : `${ends} sd ${sd}`);
    }
    if (column === "mean") return make("td", { className: "number" }, numbers.mean[row].toFixed(digits));
    if (column === "n") return make("td", { className: "number" }, DataTable.count(numbers.n[row]));
    if (column === "runs") {
      const runs = value(row, "runs").split(" ");
      const length = runs.length > 1 ? 4 : 8;
      const links = runs.map((run) =>
        make("a", { href: `run-${run}.html`, title: run }, make("code", {}, run.slice(0, length))));
      return make("td", { className: "short" }, ...links.flatMap((link) => [link, " "]));
    }
    if (column === "editor") return make("th", { scope: "row", className: "name" }, shown(value(row, column)));
    return make("td", { className: column === "model" ? "id" : "short" }, shown(value(row, column)));
  }

  const source = {
    size,
    value,
    text: (row) => searched.map(([values, codes]) => values[codes[row]]).join("\n"),
    element: (row) => make("tr", {}, ...columns.map((column) => cell(row, column))),
    // Only what occurs, in the order in which the site offers it.
    choices: (column) => (column === "protocol" ? [...units.keys()] : texts[column].values),
  };

  const explain = () => {
    const chosen = form.querySelector('[data-column="protocol"]').value;
    const { unit, text } = units.get(chosen) ?? { unit: "", text: "" };
    document.getElementById("protocol").textContent = `${text} Means are in ${unit}.`;
  };
  new DataTable(table, source, form);
  form.addEventListener("input", explain);
  explain();
})();
