/* The list of a run's cases; its data are columns, see Cases.index in cases.py. */

"use strict";

(async function () {
  const form = document.querySelector("form.filters");
  const field = (name) => form.elements[name];
  const { runs } = siteData.site;
  const wanted = DataTable.address();
  const run = runs.find(([digest]) => digest === wanted.get("run"))?.[0] ?? runs[0][0];
  for (const [digest, described] of runs) field("run").add(new Option(`${described}, ${digest.slice(0, 8)}`, digest));
  field("run").value = run;
  // Another run has another index, and other rows and stages to choose from.
  field("run").addEventListener("change", () => {
    location.hash = `run=${field("run").value}`;
    location.reload();
  });

  const index = await load(`${run}/index`);
  const { rows, status, outcomes, controls } = index;
  const editors = [...new Set(rows.map(([editor]) => editor))];
  index.stages.forEach((stage) => field("stage").add(new Option(stage, stage)));
  index.protocols.forEach((protocol, number) => field("protocol").add(new Option(protocol, index.judged[number])));
  field("editor").add(new Option("any", ""));
  editors.forEach((editor) => field("editor").add(new Option(editor, editor)));
  field("other").add(new Option("none", ""));
  editors.forEach((editor) => field("other").add(new Option(editor, editor)));
  field("stage").closest("label").hidden = index.stages.length === 1;

  // Which rows are looked at, by which protocol; read from the form once for each change of it.
  let looked = [];
  let pair = null;
  let protocol = 0;
  function read() {
    const { stage, editor, other } = form.elements;
    const at = (name) => rows.findIndex(([row, when]) => row === name && when === stage.value);
    pair = editor.value && other.value ? [at(editor.value), at(other.value)] : null;
    if (pair?.includes(-1)) pair = null;
    looked = [];
    rows.forEach(([name, at], number) => {
      const named = editor.value ? name === editor.value : !controls.includes(name);
      if (at === stage.value && named) looked.push(number);
    });
    protocol = index.judged.indexOf(field("protocol").value);
    const said = pair ? `'${editor.value}' and '${other.value}'` : editor.value ? `'${editor.value}'` : `the ${looked.length} editors (rows without any edit are not counted)`;
    document.getElementById("meaning").textContent =
      `Edited right: the edit's own prompt is answered with the new answer. Locality kept: every locality probe is as before. ` +
      `Both by ${index.protocols[protocol]}, under ${said}.`;
  }

  // An outcome is 3 edited + kept, each 0 where it was not scored, 1 for yes and 2 for no.
  const code = (row, number) => outcomes[protocol][number].charCodeAt(row) - 48;
  const edited = (row, number) => Math.floor(code(row, number) / 3);
  const kept = (row, number) => code(row, number) % 3;
  const tests = {
    right: (row, number) => edited(row, number) === 1,
    wrong: (row, number) => edited(row, number) === 2,
    kept: (row, number) => kept(row, number) === 1,
    lost: (row, number) => kept(row, number) === 2,
    done: (row, number) => status[number][row] === "d",
    failed: (row, number) => status[number][row] === "f",
    skipped: (row, number) => status[number][row] === "s",
  };

  const pairs = {
    first: (row, a, b) => edited(row, a) === 1 && edited(row, b) === 2,
    second: (row, a, b) => edited(row, b) === 1 && edited(row, a) === 2,
    both: (row, a, b) => edited(row, a) === 1 && edited(row, b) === 1,
    neither: (row, a, b) => edited(row, a) === 2 && edited(row, b) === 2,
    "first-kept": (row, a, b) => kept(row, a) === 1 && kept(row, b) === 2,
    "second-kept": (row, a, b) => kept(row, b) === 1 && kept(row, a) === 2,
  };

  /** Count the rows with a yes, and those with any answer. */
  function tally(row, outcome) {
    const found = looked.map((number) => outcome(row, number)).filter((answer) => answer > 0);
    return [found.filter((answer) => answer === 1).length, found.length];
  }

  function tallyCell(row, outcome, [yes, no]) {
    const [hits, all] = tally(row, outcome);
    const named = pair ?? (looked.length === 1 ? looked : null);
    if (named) {
      const words = named.map((number) => {
        const letter = status[number][row];
        const answer = outcome(row, number);
        const word = letter === "f" ? "failed" : letter === "s" ? "skipped" : answer ? (answer === 1 ? yes : no) : "-";
        return make("span", { className: answer ? word : "" }, word);
      });
      return make("td", { className: "number" }, ...words.flatMap((word, place) => (place ? [" / ", word] : [word])));
    }
    return make("td", { className: "number" }, all ? `${hits} of ${all}` : "-");
  }

  const searched = [];
  const source = {
    size: index.size,
    changing: ["right", "kept"],
    value(row, column) {
      if (column === "id") return index.ids[row];
      if (column === "task") return index.tasks[index.task[row]];
      if (column === "edit") return index.prompt[row];
      const [hits, all] = tally(row, column === "right" ? edited : kept);
      return all ? hits / all : null;
    },
    text(row) {
      searched[row] ??= [index.ids[row], index.subject[row], index.prompt[row], index.target[row]].join("\n").toLowerCase();
      return searched[row];
    },
    choices: () => index.tasks,
    before: read,
    accepts() {
      const chosen = field("outcome").value;
      if (chosen in pairs) return (row) => pair !== null && pairs[chosen](row, ...pair);
      const test = tests[chosen];
      return test ? (row) => looked.some((number) => test(row, number)) : null;
    },
    element(row) {
      const link = make("a", { href: caseAddress(run, index.ids[row]) }, shown(index.ids[row]));
      const edit = [shown(index.prompt[row]), " \u2192 ", make("strong", {}, shown(index.target[row]))];
      return make(
        "tr",
        {},
        make("th", { scope: "row", className: "id" }, link),
        make("td", {}, shown(index.tasks[index.task[row]])),
        make("td", { className: "text" }, ...edit),
        tallyCell(row, edited, ["right", "wrong"]),
        tallyCell(row, kept, ["kept", "lost"]),
      );
    },
  };
  new DataTable(document.getElementById("cases"), source, form);
})().catch(complain);
