"use strict";
(() => {
  const [gallery, title, worst, pressed] = ["gallery", "looks", "worst", "pressed"].map((id) => document.getElementById(id));
  const images = gallery ? [...gallery.children] : [];
  const worstTitle = title && title.textContent;

  // Show the worst mistakes, or the images of a cell, under the heading `text`; `chosen` is the pressed button.
  const turn = (text, chosen) => {
    worst.hidden = Boolean(chosen);
    pressed.hidden = !chosen;
    title.textContent = text;
    for (const button of document.querySelectorAll("button[data-true]")) button.setAttribute("aria-pressed", button === chosen);
  };

  // Show the images of a pressed cell, pair or class, and their number; a second press shows the worst mistakes again.
  const show = (button) => {
    if (button.getAttribute("aria-pressed") === "true") return turn(worstTitle);
    const { true: label, predicted, count } = button.dataset;
    let shown = 0;
    for (const image of images) {
      const fits = predicted === undefined
        ? image.dataset.true === label && image.dataset.predicted !== label
        : image.dataset.true === label && image.dataset.predicted === predicted;
      image.hidden = !fits;
      shown += fits;
    }
    const of = shown < count ? `${shown} of ${count} shown` : count === "1" ? "1 image" : `${count} images`;
    turn(`${button.dataset.name}: ${of}`, button);
    title.scrollIntoView({ block: "nearest" });
  };

  document.addEventListener("click", (event) => {
    if (gallery && event.target.closest("a[href='#looks']")) turn(worstTitle);
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.true !== undefined) gallery && show(button);
    else if (button.id === "back") {
      const cell = document.querySelector("button[data-true][aria-pressed=true]");
      turn(worstTitle);
      cell.focus({ preventScroll: true });
    }
    else if (button.dataset.column !== undefined) sort(button);
  });

  // The Tab key stops once in the matrix; arrow keys move between its cells.
  const matrix = document.getElementById("matrix");
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (matrix) {
    const cells = [...matrix.tBodies[0].rows].map((row) => [...row.cells].slice(1).map((cell) => cell.querySelector("button")));
    const all = cells.flat().filter(Boolean);
    const stop = (chosen) => all.forEach((button) => { button.tabIndex = button === chosen ? 0 : -1; });
    stop(all[0]);
    matrix.addEventListener("focusin", (event) => { if (all.includes(event.target)) stop(event.target); });
    matrix.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      let row = cells.findIndex((line) => line.includes(event.target));
      if (!step || row < 0) return;
      let column = cells[row].indexOf(event.target);
      do { row += step[0]; column += step[1]; } while (cells[row] && column >= 0 && column < cells[row].length && !cells[row][column]);
      const next = cells[row] && cells[row][column];
      if (next) { event.preventDefault(); next.focus(); }
    });
  }

  // Sort the table of classes by the column of a pressed head; a second press reverses the order.
  const sort = (button) => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    const column = head.cellIndex, sign = down ? -1 : 1;
    const value = (row) => row.cells[column].dataset.value;
    const order = (a, b) => (head.dataset.text ? value(a).localeCompare(value(b), undefined, { numeric: true }) : value(a) - value(b));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => sign * order(a, b)));
  };

  // Folded parts that belong on paper are printed open.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.print:not([open])")];
    folded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));

  const search = document.getElementById("search");
  if (search) {
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase(), table = document.getElementById("classes-table");
      table.closest("details").open = true;
      for (const row of table.tBodies[0].rows) {
        row.hidden = !row.cells[0].dataset.value.toLowerCase().includes(wanted);
      }
    });
  }
})();
