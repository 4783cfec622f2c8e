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
  const { rows, status, outcomes, controls, measures } = index;
  const editors = [...new Set(rows.map(([editor]) => editor))];
  index.stages.forEach((stage) => field("stage").add(new Option(stage, stage)));
  index.protocols.forEach((protocol, number) => field("protocol").add(new Option(protocol, index.judged[number])));
  field("editor").add(new Option("any", ""));
  editors.forEach((editor) => field("editor").add(new Option(editor, editor)));
  field("other").add(new Option("no other", ""));
  editors.forEach((editor) => field("other").add(new Option(editor, editor)));
  field("stage").closest("label").hidden = index.stages.length === 1;
  measures.forEach((measure) => field("measure").add(new Option(measure, measure)));
  for (const head of document.querySelectorAll("th[data-measure]")) {
    if (!measures.includes(head.dataset.column)) head.remove();
  }

  // Which rows are looked at, by which protocol and measure; read from the form once for each change of it.
  let looked = [];
  let pair = null;
  let protocol = index.judged[0];
  let measure = "";
  const words = { locality: ["kept", "lost"] };
  const named = (name) => words[name] ?? ["right", "wrong"];
  function read() {
    const { stage, editor, other, outcome } = form.elements;
    const at = (name) => rows.findIndex(([row, when]) => row === name && when === stage.value);
    pair = editor.value && other.value ? [at(editor.value), at(other.value)] : null;
    if (pair?.includes(-1)) pair = null;
    looked = [];
    rows.forEach(([name, at], number) => {
      const counted = editor.value ? name === editor.value : !controls.includes(name);
      if (at === stage.value && counted) looked.push(number);
    });
    protocol = field("protocol").value;
    measure = field("measure").value;
    const [yes, no] = named(measure);
    const [first, second] = pair ? [editor.value, other.value] : ["first", "second"];
    const said = {
      right: yes,
      wrong: measure === "locality" ? "changed though it should not" : no,
      first: `${first} ${yes}, ${second} ${no}`,
      second: `${second} ${yes}, ${first} ${no}`,
      both: `both ${yes}`,
      neither: `both ${no}`,
    };
    for (const option of outcome.options) option.text = said[option.value] ?? option.text;
    const under = pair ? `'${first}' and '${second}'` : editor.value ? `'${editor.value}'` : `the ${looked.length} editors (rows without any edit are not counted)`;
    document.getElementById("meaning").textContent =
      `Right: every probe of the measure is answered with the new answer; kept: every locality probe is as before. ` +
      `By ${index.protocols[index.judged.indexOf(protocol)]}, under ${under}.`;
  }

  // An outcome is 1 for right or kept, 2 for wrong or lost, 0 where it was not scored.
  const result = (row, number, name = measure) => (outcomes[protocol][name]?.[number].charCodeAt(row) ?? 48) - 48;
  const tests = {
    right: (row, number) => result(row, number) === 1,
    wrong: (row, number) => result(row, number) === 2,
    done: (row, number) => status[number][row] === "d",
    failed: (row, number) => status[number][row] === "f",
    skipped: (row, number) => status[number][row] === "s",
  };
  const pairs = {
    first: (row, a, b) => result(row, a) === 1 && result(row, b) === 2,
    second: (row, a, b) => result(row, b) === 1 && result(row, a) === 2,
    both: (row, a, b) => result(row, a) === 1 && result(row, b) === 1,
    neither: (row, a, b) => result(row, a) === 2 && result(row, b) === 2,
  };

  /** Count the rows with a yes, and those with any answer. */
  function tally(row, name) {
    const found = looked.map((number) => result(row, number, name)).filter((answer) => answer > 0);
    return [found.filter((answer) => answer === 1).length, found.length];
  }

  function tallyCell(row, name) {
    const one = pair ?? (looked.length === 1 ? looked : null);
    if (!one) {
      const [hits, all] = tally(row, name);
      return make("td", { className: "number" }, all ? `${hits} of ${all}` : "-");
    }
    const said = one.map((number) => {
      const letter = status[number][row];
      const answer = result(row, number, name);
      const word = letter === "f" ? "failed" : letter === "s" ? "skipped" : answer ? named(name)[answer - 1] : "-";
      return make("span", { className: answer ? word : "" }, word);
    });
    return make("td", { className: "number" }, ...said.flatMap((word, place) => (place ? [" / ", word] : [word])));
  }

  const searched = [];
  const source = {
    size: index.size,
    changing: measures,
    value(row, column) {
      if (column === "id") return index.ids[row];
      if (column === "task") return index.tasks[index.task[row]];
      if (column === "edit") return index.prompt[row];
      const [hits, all] = tally(row, column);
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
        ...measures.map((name) => tallyCell(row, name)),
      );
    },
  };
  new DataTable(document.getElementById("cases"), source, form);
})().catch(complain);
