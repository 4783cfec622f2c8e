/* One case: the edit, every probe, and the answers before the edit and under each editor.
 *
 * The address is case.html#RUN/CASE. The index of the run gives the chunk of the case; see cases.py.
 */

"use strict";

(function () {
  const WORDS = {
    teacher_forced_exact: "Exact match",
    teacher_forced_token: "Token share",
    free_generation: "Free generation",
    edit_success: "ES",
    z_sent: "z_sent",
    z_topic: "z_topic",
    kl_divergence: "KL",
    probability_order: "P(new) > P(old)",
    reversion: "Old answer again",
    known_before: "Known before",
    ngram_entropy: "Entropy",
  };
  const ORDER = Object.keys(WORDS);
  /** Words and classes of 0 and 1 of protocols that read the old answer. */
  const ANSWERED = {
    probability_order: [["no", "wrong"], ["yes", "right"]],
    reversion: [["no", "right"], ["yes", "wrong"]],
    known_before: [["no", ""], ["yes", ""]],
  };
  /** Facts of an edit; another one is called by its name in the records. */
  const FACTS = {
    target_probability: "Target\u2019s probability",
    final_loss: "Loss",
    steps: "Steps",
    converged: "Converged",
    at_bound: "Share at bound",
    delta_norm: "|dW|",
    relative_norm: "|dW|\u00a0/\u00a0|W|",
    cosine: "Mean cosine",
  };
  const words = new Intl.Segmenter("und", { granularity: "word" });

  /** Split a text into words, spaces and signs. */
  const split = (text) => Array.from(words.segment(text), ({ segment }) => segment);

  /**
   * Return the words of two texts as [sign, words]: "=" in both, "-" in the first alone, "+" in the second alone. The
   * words in both are a longest common subsequence. Changes with nothing but a space between them are one change: words
   * that take turns are hard to read.
   */
  function difference(before, after) {
    const [a, b] = [split(before), split(after)];
    const length = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) {
        length[i][j] = a[i] === b[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
      }
    }
    const parts = [];
    let [i, j, same, removed, added] = [0, 0, "", "", ""];
    const close = () => {
      for (const part of [["-", removed], ["+", added], ["=", same]]) if (part[1]) parts.push(part);
      [same, removed, added] = ["", "", ""];
    };
    while (i < a.length || j < b.length) {
      if (i < a.length && j < b.length && a[i] === b[j]) {
        same += a[i];
        i += 1;
        j += 1;
        continue;
      }
      if (same.trim() || !(removed || added)) close();
      else [same, removed, added] = ["", removed && removed + same, added && added + same];
      if (j === b.length || (i < a.length && length[i + 1][j] >= length[i][j + 1])) {
        removed += a[i];
        i += 1;
      } else {
        added += b[j];
        j += 1;
      }
    }
    close();
    return parts;
  }

  /** Return an answer with the words marked that differ from what the unedited model said. */
  function compared(before, after) {
    const tags = { "=": "span", "-": "del", "+": "ins" };
    return difference(before, after).map(([sign, text]) => make(tags[sign], {}, ...literal(text)));
  }

  function scroll(label, table) {
    const region = make("div", { className: "scroll", tabIndex: 0, role: "region" }, table);
    region.setAttribute("aria-label", label);
    return region;
  }

  /** Return a table from heads [words, class] and rows of cells; as wide as the page if it has a column of texts. */
  function grid(label, heads, rows) {
    const wide = heads.some(([, className]) => className === "answer" || className === "text");
    const head = make("tr", {}, ...heads.map(([text, className]) => make("th", { scope: "col", className }, text)));
    return scroll(label, make("table", { className: wide ? "wide" : "" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  /** Return the cell of a score: a word where it is right or wrong, else the number. */
  function scoreCell([measure, , , protocol, digits], value) {
    if (value === undefined) return make("td", { className: "number" }, "-");
    if (protocol === "teacher_forced_exact" || protocol === "free_generation") {
      const [yes, no] = measure === "locality" ? ["kept", "lost"] : ["right", "wrong"];
      const word = value === 1 ? yes : value === 0 ? no : "";
      if (word) return make("td", { className: "number" }, make("span", { className: word }, word));
    }
    const said = ANSWERED[protocol]?.[value];
    if (said) return make("td", { className: "number" }, make("span", { className: said[1] }, said[0]));
    return make("td", { className: "number" }, value.toFixed(digits));
  }

  /** Return the pairs of a flat list. */
  const pairs = (flat = []) => Array.from({ length: flat.length / 2 }, (_, n) => [flat[2 * n], flat[2 * n + 1]]);

  /** Draw a case. */
  function draw(run, index, place, { texts, cases }) {
    const text = (number) => (number === null || number === undefined ? null : texts[number]);
    const found = cases[place % index.chunk];
    const several = index.stages.length > 1;
    const label = (row) => {
      const [editor, stage] = index.rows[row];
      return several ? `${editor}, ${stage}` : editor;
    };
    const byProtocol = (a, b) => ORDER.indexOf(index.kinds[a][3]) - ORDER.indexOf(index.kinds[b][3]) || a - b;
    const rowHead = (row) => make("th", { scope: "row", className: "name" }, shown(label(row)));
    const task = index.tasks[index.task[place]];

    function head() {
      const near = (number, word) =>
        number >= 0 && number < index.size ? make("a", { href: caseAddress(run[0], index.ids[number]) }, word) : null;
      const back = make("a", { href: `cases.html#run=${run[0]}` }, "All cases");
      const ways = [back, near(place - 1, "Previous case"), near(place + 1, "Next case")].filter(Boolean);
      const facts = make("dl", { className: "facts" });
      const fact = (word, ...value) => facts.append(make("dt", {}, word), make("dd", {}, ...value));
      fact("Task", shown(task));
      fact("Subject", shown(index.subject[place]));
      if (found.old !== undefined) fact("Old answer", shown(text(found.old)));
      fact("Run", make("a", { href: `run-${run[0]}.html` }, make("code", {}, run[0])), " ", shown(run[1]));
      return [
        make("h1", {}, "Case ", shown(index.ids[place])),
        make("p", { className: "ways" }, ...ways),
        make(
          "p",
          { className: "edit" },
          make("span", { className: "prompt" }, shown(index.prompt[place])),
          " \u2192 ",
          make("span", { className: "target" }, shown(index.target[place])),
        ),
        facts,
      ];
    }

    const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);

    /** Return the cell of a fact about an edit: three digits are enough to read, all stand in its title. */
    function factCell(name, value) {
      if (value === undefined) return make("td", { className: "number" }, "-");
      if (name === "converged") return make("td", { className: "number" }, value ? "yes" : "no");
      const short = Number.isInteger(value) ? String(value) : value.toPrecision(3);
      const written = short.includes("e") ? String(Number(short)) : short;
      return make("td", { className: "number", title: String(value) }, written);
    }

    /** Return the rows of the case: instruction, status, and statistics of the edit. */
    function editors() {
      const facts = [...new Set(found.rows.flatMap(({ edit = [] }) => edit.map(([name]) => text(name))))];
      const trained = index.trained.some(Boolean);
      const rows = found.rows.map((row) => {
        const numbers = new Map((row.edit ?? []).map(([name, value]) => [text(name), value]));
        const unscored = (row.unscored ?? []).map(([reason, count]) => `; ${count} unscored: ${text(reason)}`).join("");
        const reason = row.reason === undefined ? "" : `: ${text(row.reason)}`;
        return make(
          "tr",
          {},
          rowHead(row.row),
          make("td", {}, shown(`${row.status ?? "done"}${reason}${unscored}`)),
          ...facts.map((name) => factCell(name, numbers.get(name))),
          trained ? make("td", { className: "id" }, shown(index.trained[row.row] ?? "-")) : null,
        );
      });
      const heads = [
        ["Editor", "name"],
        ["Status", ""],
        ...facts.map((name) => [FACTS[name] ?? capital(name.replaceAll("_", " ")), "number"]),
        ...(trained ? [["Trained on", "id"]] : []),
      ];
      // Below the table, without repetition: a column of texts would push the facts off the page.
      const instructed = new Map();
      for (const row of found.rows) {
        const words = text(row.instruction);
        if (words !== null) instructed.set(words, [...(instructed.get(words) ?? []), label(row.row)]);
      }
      const instructions = [...instructed].map(([words, names]) =>
        make("p", {}, "Instruction of ", shown(names.join(", ")), ": ", shown(words)));
      const summary = make("summary", {}, `Edits, ${found.rows.length} rows`);
      return make("details", {}, summary, grid("Edits", heads, rows), ...instructions);
    }

    /** Return a probe: prompt, accepted answers, and each row's answer with its scores. */
    function probe([role, subset, prompt, before, accepted, opposed, derived, reference], number) {
      const rows = found.rows.flatMap((row) =>
        (row.answers ?? []).filter((answer) => answer[0] === number).map((answer) => [row.row, text(answer[1]), pairs(answer.slice(2))]));
      const kinds = [...new Set(rows.flatMap(([, , scores]) => scores.map(([kind]) => kind)))].sort(byProtocol);
      const said = text(before);
      const generated = said !== null || rows.some(([, answer]) => answer !== null);
      const heads = [
        ["Editor", "name"],
        ...(generated ? [["Answer, free generation", "answer"]] : []),
        ...kinds.map((kind) => [WORDS[index.kinds[kind][3]], "number"]),
      ];
      const answerCell = (answer) => {
        if (answer === null) return make("td", { className: "answer note" }, "not generated");
        if (answer === "") return make("td", { className: "answer note" }, "nothing");
        if (said === null) return make("td", { className: "answer" }, shown(answer));
        if (said === answer) return make("td", { className: "answer" }, shown(answer), " ", make("span", { className: "note" }, "(as before)"));
        return make("td", { className: "answer" }, make("bdi", {}, ...compared(said, answer)));
      };
      const lines = rows.map(([row, answer, scores]) => {
        const values = new Map(scores);
        return make(
          "tr",
          {},
          rowHead(row),
          generated ? answerCell(answer) : null,
          ...kinds.map((kind) => scoreCell(index.kinds[kind], values.get(kind))),
        );
      });
      if (said !== null) {
        const first = make("th", { scope: "row", className: "name" }, "before any edit");
        const empty = kinds.map(() => make("td", {}));
        lines.unshift(make("tr", { className: "before" }, first, make("td", { className: "answer" }, shown(said)), ...empty));
      }
      const list = (word, numbers) =>
        numbers.length
          ? make("p", { className: "note" }, `${word}: `, ...numbers.flatMap((n, at) => [at ? " | " : "", shown(text(n))]))
          : null;
      const title = `${role}${derived ? "\u2020" : ""}, ${text(subset)}`;
      return make(
        "section",
        { className: "probe" },
        make("h3", {}, shown(title)),
        make("p", { className: "prompt" }, shown(text(prompt))),
        list(role === "locality" ? "Answer in the data" : "Accepted", accepted),
        reference === undefined ? null : list("No answer in the data; read along, the unedited model\u2019s own", [reference]),
        list("Opposed", opposed),
        grid(title, heads, lines),
      );
    }

    /** Return what is scored of the case as a whole: its fluency text. */
    function whole() {
      const rows = found.rows.filter((row) => row.text !== undefined || row.scores);
      if (!rows.length) return null;
      const kinds = [...new Set(rows.flatMap((row) => pairs(row.scores).map(([kind]) => kind)))];
      const heads = [["Editor", "name"], ["Sampled text", "answer"], ...kinds.map((kind) => [WORDS[index.kinds[kind][3]], "number"])];
      const lines = rows.map((row) => {
        const values = new Map(pairs(row.scores));
        return make(
          "tr",
          {},
          rowHead(row.row),
          make("td", { className: "answer" }, shown(text(row.text) ?? "-")),
          ...kinds.map((kind) => scoreCell(index.kinds[kind], values.get(kind))),
        );
      });
      return make("section", { className: "probe" }, make("h2", {}, "Free text"), grid("Free text", heads, lines));
    }

    const box = make("input", { type: "checkbox", checked: true });
    const probes = make("div", {}, ...found.probes.map(probe));
    box.addEventListener("input", () => probes.classList.toggle("no-removed", !box.checked));
    const marked = found.probes.some((row) => row[3] !== null);
    const legend = marked
      ? make(
          "p",
          { className: "note legend" },
          "Against the unedited model: ",
          make("ins", {}, "added words"),
          ", ",
          make("del", {}, "removed words"),
          ". ",
          make("label", {}, box, " Show removed words"),
        )
      : make("p", { className: "note" }, "This run has no generated answers: answers are scored under teacher forcing.");
    document.title = `${index.ids[place]} - ${siteData.site.title}`;
    const extra = found.probes.some((row) => row[6]) ? make("p", { className: "note" }, "\u2020 a prompt made by a stated rule because the data has none") : null;
    document
      .getElementById("case")
      .replaceChildren(...[...head(), editors(), make("h2", {}, "Probes"), legend, extra, probes, whole()].filter(Boolean));
  }

  async function show() {
    document.getElementById("case").replaceChildren();
    const address = location.hash.slice(1);
    const cut = address.indexOf("/");
    const run = siteData.site.runs.find(([digest]) => digest === address.slice(0, cut));
    if (!run) throw new Error("No such run in this site; an address has the form case.html#RUN/CASE.");
    const index = await load(`${run[0]}/index`);
    const place = index.ids.indexOf(decodeURIComponent(address.slice(cut + 1)));
    if (place < 0) throw new Error(`No such case in run ${run[0]}.`);
    draw(run, index, place, await load(`${run[0]}/${Math.floor(place / index.chunk)}`));
    document.getElementById("case").dataset.drawn = "";
  }

  // Another case is another page: it is read from its top.
  window.addEventListener("hashchange", () =>
    show()
      .then(() => document.getElementById("main").focus())
      .catch(complain));
  show().catch(complain);
})();
