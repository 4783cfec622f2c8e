/* Tables that are sorted, filtered and paged in the browser. Plain script, no dependency, works from file://.
 *
 * Markup (all a page has to write; see style.css for the classes):
 *
 *   <form class="filters" data-filters="means">               belongs to the table with the id `means`; a <details> around
 *                                                              it is folded on a narrow screen
 *     <label>Task <select data-column="task"></select></label>   keeps rows whose value in the column is the chosen one;
 *                                                                an empty select gets "all" and the values that occur
 *     <select data-column="protocol" data-required>              the same without "all": the first value is chosen;
 *                                                                with data-initial="..." this one is, but for a choice
 *     <label class="check"><input type="checkbox" data-column="trained" data-hide="yes"> Hide ...</label>
 *                                                                hides rows that have this value while it is checked
 *     <label class="grow">Search <input type="search" data-search></label>   every word has to occur in the row
 *   </form>
 *   <div class="scroll" role="region" aria-label="Means" tabindex="0">
 *   <table id="means" data-sortable data-page="100">          data-page: rows shown at a time; all without it
 *     <thead><tr><th data-column="task">Task</th>
 *                <th data-column="mean" data-number class="number">Mean</th>   data-number: sorted as numbers
 *                <th>Not sortable</th></tr></thead>            a head without data-column is left alone
 *     <tbody><tr><td>zsre</td><td data-value="0.8333" class="number">83.3</td> ...   data-value: what is sorted and
 *   </table></div>                                                                   filtered by; else the text
 *
 * The first press on a head sorts numbers from high to low and words from A to Z, the second the other way round. Heads
 * are buttons, so Tab, Enter and Space work; aria-sort gives the order, a status line the number of rows.
 * Filters are kept in the address (`#task=zsre`), so that a link can choose them.
 *
 * Rows that are not markup come from a source, an object as `markupSource` returns:
 *
 *   new DataTable(table, {size, value(row, column), text(row), element(row)}, form)
 */

"use strict";

class DataTable {
  /**
   * @param {HTMLTableElement} table with a head; its body is filled
   * @param {object} source size: number of rows; value(row, column): string, number or null; text(row): what is searched,
   *   in lower case; element(row): a new or kept <tr>. If there: choices(column): what a select offers; before():
   *   called before each filtering; accepts(): a filter of its own, from a row to whether it is kept, or null;
   *   changing: columns whose values depend on the form
   * @param {?HTMLFormElement} form the filters
   */
  constructor(table, source, form = null) {
    this.table = table;
    this.source = source;
    this.form = form;
    this.page = 0;
    this.pageSize = Number(table.dataset.page) || Infinity;
    this.order = Array.from({ length: source.size }, (_, row) => row);
    this.shown = this.order;
    this.#makeHeads();
    this.#makePager();
    if (form) this.#bindForm();
    this.filter();
  }

  /** Apply the filters and show the first page. */
  filter() {
    this.source.before?.();
    if (this.sorted && this.source.changing?.includes(this.sorted[0])) this.#order(...this.sorted);
    const tests = this.form ? this.#tests() : [];
    this.shown = tests.length ? this.order.filter((row) => tests.every((test) => test(row))) : this.order;
    this.show(0);
  }

  /** Sort by a column: "ascending" or "descending". Rows without a value come last in both; ties keep their order. */
  sort(column, direction) {
    this.sorted = [column, direction];
    this.#order(column, direction);
    for (const [name, head] of this.heads) head.setAttribute("aria-sort", name === column ? direction : "none");
    this.filter();
  }

  #order(column, direction) {
    const head = this.heads.get(column);
    const sign = direction === "ascending" ? 1 : -1;
    const values = Array.from({ length: this.source.size }, (_, row) => this.source.value(row, column));
    const missing = (value) => value === null || value === "" || Number.isNaN(value);
    const compare = head.hasAttribute("data-number") ? (a, b) => a - b : DataTable.collator.compare;
    const rows = values.map((_, row) => row);
    const empty = rows.filter((row) => missing(values[row]));
    this.order = rows
      .filter((row) => !missing(values[row]))
      .sort((a, b) => sign * compare(values[a], values[b]) || a - b)
      .concat(empty);
  }

  /** Show a page of the rows that are left. */
  show(page) {
    const size = this.pageSize;
    const pages = Math.max(1, Math.ceil(this.shown.length / size));
    this.page = Math.min(Math.max(page, 0), pages - 1);
    const start = pages > 1 ? this.page * size : 0;
    const rows = this.shown.slice(start, start + size);
    const body = this.table.tBodies[0];
    body.replaceChildren(...rows.map((row) => this.source.element(row)));
    if (!rows.length) {
      const cell = body.insertRow().insertCell();
      cell.colSpan = this.table.tHead.rows[0].cells.length;
      cell.className = "empty";
      cell.textContent = "No row matches.";
    }
    const all = this.shown.length === this.source.size ? "" : ` (of ${DataTable.count(this.source.size)})`;
    const range = pages > 1 ? `${DataTable.count(start + 1)} to ${DataTable.count(start + rows.length)} of ` : "";
    this.status.textContent = `${range}${DataTable.count(this.shown.length)} rows${all}`;
    this.previous.disabled = this.page === 0;
    this.next.disabled = this.page === pages - 1;
    this.previous.hidden = this.next.hidden = pages === 1;
    this.table.dataset.drawn = "";
  }

  #makeHeads() {
    this.heads = new Map();
    for (const head of this.table.tHead.querySelectorAll("th[data-column]")) {
      const column = head.dataset.column;
      this.heads.set(column, head);
      head.setAttribute("aria-sort", "none");
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const first = head.hasAttribute("data-number") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      button.addEventListener("click", () => this.sort(column, head.ariaSort === first ? second : first));
    }
  }

  #makePager() {
    const pager = document.createElement("div");
    pager.className = "pages";
    const button = (words, step) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = words;
      made.addEventListener("click", () => {
        this.show(this.page + step);
        // A button that is switched off would lose the focus to the page.
        if (made.disabled) (made === this.next ? this.previous : this.next).focus();
      });
      return made;
    };
    this.previous = button("Previous", -1);
    this.next = button("Next", 1);
    this.status = document.createElement("span");
    this.status.setAttribute("role", "status");
    pager.append(this.previous, this.next, this.status);
    // On a narrow screen the filters are folded, and the number of rows comes before them.
    const folded = this.form?.closest("details");
    const narrow = matchMedia("(max-width: 40rem)");
    const fold = () => {
      if (folded) folded.open = !narrow.matches;
      ((narrow.matches && folded) || this.table.closest(".scroll") || this.table).before(pager);
    };
    narrow.addEventListener("change", fold);
    fold();
  }

  #bindForm() {
    const wanted = DataTable.address();
    for (const select of this.form.querySelectorAll("select[data-column]")) {
      if (!select.options.length) this.#fill(select);
    }
    for (const field of this.form.elements) {
      const name = DataTable.nameOf(field);
      if (field.dataset.initial) DataTable.set(field, field.dataset.initial);
      if (name && wanted.has(name)) DataTable.set(field, wanted.get(name));
    }
    this.form.addEventListener("input", () => this.#changed());
    this.form.addEventListener("submit", (event) => event.preventDefault());
  }

  #fill(select) {
    const { source } = this;
    const { column } = select.dataset;
    // In the order of the rows, which is the order of the run.
    const values = source.choices?.(column) ?? this.order.map((row) => source.value(row, column));
    if (!select.hasAttribute("data-required")) select.add(new Option("all", ""));
    for (const value of new Set(values)) if (value !== null && value !== "") select.add(new Option(value, value));
  }

  #changed() {
    const wanted = new URLSearchParams();
    for (const field of this.form.elements) {
      const name = DataTable.nameOf(field);
      const value = field.type === "checkbox" ? (field.checked ? "on" : "") : field.value;
      // An empty choice has to be said where the first one is not empty.
      if (name && (value || field.dataset.initial)) wanted.set(name, value);
    }
    history.replaceState(null, "", `#${wanted}`);
    this.filter();
  }

  #tests() {
    const { form, source } = this;
    const tests = [];
    for (const field of form.querySelectorAll("select[data-column]")) {
      if (field.value) tests.push((row) => String(source.value(row, field.dataset.column)) === field.value);
    }
    for (const box of form.querySelectorAll("input[data-hide]:checked")) {
      tests.push((row) => String(source.value(row, box.dataset.column)) !== box.dataset.hide);
    }
    const accepted = source.accepts?.();
    if (accepted) tests.push(accepted);
    for (const field of form.querySelectorAll("input[data-search]")) {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (words.length) tests.push((row) => words.every((word) => source.text(row).includes(word)));
    }
    return tests;
  }

  static collator = new Intl.Collator("en", { numeric: true });

  static count(number) {
    return number.toLocaleString("en");
  }

  /** Name of a filter in the address; empty for what is none. */
  static nameOf(field) {
    if (field.hasAttribute("data-search")) return "search";
    return field.dataset.column ?? field.name ?? "";
  }

  static address() {
    return new URLSearchParams(location.hash.slice(1));
  }

  /** Set a filter from the address; what a select does not offer is not set. */
  static set(field, value) {
    if (field.type === "checkbox") field.checked = value === "on";
    else if (field.type === "search" || [...field.options].some((option) => option.value === value)) field.value = value;
  }
}

/** A source of the rows that stand in a table's markup; they are taken out of it and shown page by page. */
function markupSource(table) {
  const heads = [...table.tHead.rows[0].cells];
  const place = new Map(heads.map((head, index) => [head.dataset.column, index]));
  const number = heads.map((head) => head.hasAttribute("data-number"));
  const rows = [...table.tBodies[0].rows];
  const read = (cell, index) => {
    const value = cell.dataset.value ?? cell.textContent.trim();
    return number[index] ? (value === "" ? null : Number(value)) : value;
  };
  const values = rows.map((row) => [...row.cells].map(read));
  const texts = rows.map((row) => row.textContent.toLowerCase());
  return {
    size: rows.length,
    value: (row, column) => values[row][place.get(column)] ?? null,
    text: (row) => texts[row],
    element: (row) => rows[row],
  };
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const form = table.id ? document.querySelector(`form[data-filters~="${CSS.escape(table.id)}"]`) : null;
  new DataTable(table, markupSource(table), form);
}
