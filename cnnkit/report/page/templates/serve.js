"use strict";
(() => {
  const PARALLEL = 2, MAX_IMAGES = 2000, MAX_TRIES = 120, THUMBNAIL = 96, SMALL = 96;
  const by = (id) => document.getElementById(id);
  const input = by("files"), status = by("status"), body = by("rows").tBodies[0], hasSets = by("rows").tHead.rows[0].cells.length > 4;
  const items = [];
  let running = 0, chosen = null, address = "", chosenByHand = false, clearings = 0;

  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

  // Send one image; a full queue asks for patience.
  const ask = async (file) => {
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      let response;
      try {
        response = await fetch("predict?top=5", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
      } catch {
        return { error: file.size ? "no connection to the server, or the file cannot be read" : "the file is empty" };
      }
      if (response.status === 503) {
        await pause(Number(response.headers.get("Retry-After")) || 1);
        continue;
      }
      try {
        const document = await response.json();
        return document.predictions ? document.predictions[0] : { error: document.error };
      } catch {
        return { error: `the server gave status ${response.status}` };
      }
    }
    return { error: "the server is too busy; try again later" };
  };

  const thumbnail = async (item) => {
    try {
      const bitmap = await createImageBitmap(item.file);
      const scale = Math.min(1, THUMBNAIL / Math.min(bitmap.width, bitmap.height));
      const canvas = element("canvas");
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
      const image = element("img");
      image.alt = "";
      image.src = canvas.toDataURL("image/jpeg", 0.8);
      item.row.cells[0].replaceChildren(image);
    } catch {
      // The browser cannot show every format that the server reads.
    }
  };

  const verdict = (found) => (found.error ? `error: ${found.error}` : found.abstained ? `don't know (${found.predicted})` : found.predicted);

  const fill = (item) => {
    const found = item.found, cells = item.row.cells;
    cells[2].textContent = verdict(found);
    cells[2].className = found.error ? "error" : found.abstained ? "warning" : "";
    cells[3].textContent = found.error ? "" : percent(found.probability);
    if (hasSets) cells[4].textContent = (found.label_set || []).join(", ");
  };

  // Show one image large, with its classes.
  const choose = (item) => {
    if (chosen) chosen.row.setAttribute("aria-selected", "false");
    chosen = item;
    item.row.setAttribute("aria-selected", "true");
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(item.file);
    const picture = by("picture");
    picture.classList.remove("pixels");
    picture.alt = item.name;
    picture.src = address;
    by("caption").textContent = item.name;
    by("one").hidden = false;
    show(item);
  };
  by("picture").addEventListener("load", (event) => event.target.classList.toggle("pixels", event.target.naturalWidth <= SMALL));
  by("picture").addEventListener("error", (event) => { event.target.alt = "no preview"; });

  const show = (item) => {
    const found = item.found, bars = by("bars"), set = by("set");
    bars.hidden = !found || Boolean(found.error);
    set.hidden = true;
    by("verdict").className = "class";
    if (!found) {
      by("verdict").textContent = "…";
      by("sure").textContent = "";
      return;
    }
    if (found.error) {
      by("verdict").textContent = found.error;
      by("verdict").classList.add("failed");
      by("sure").textContent = "This file has no prediction.";
      return;
    }
    by("verdict").textContent = found.abstained ? "don't know" : found.predicted;
    by("verdict").classList.toggle("unsure", found.abstained);
    by("sure").textContent = found.abstained
      ? `${found.predicted} is the most probable class with ${percent(found.probability)}, which is below the model's threshold`
      : percent(found.probability);
    if (found.label_set) {
      set.hidden = false;
      set.replaceChildren("One of: ", ...(found.label_set.length ? found.label_set.map((name) => element("span", name)) : ["no class fits"]));
    }
    bars.tBodies[0].replaceChildren(...found.top.map((each) => {
      const row = element("tr"), head = element("th", each.class), cell = element("td", undefined, "bar"), bar = element("span");
      head.scope = "row";
      bar.style.width = `${100 * each.probability}%`;
      cell.append(bar);
      row.append(head, cell, element("td", percent(each.probability), "number"));
      return row;
    }));
  };

  const report = () => {
    const done = items.filter((item) => item.found).length, failed = items.filter((item) => item.found && item.found.error).length;
    const unsure = items.filter((item) => item.found && item.found.abstained).length;
    const parts = [done < items.length ? `${done} of ${items.length} images done` : items.length === 1 ? "" : `${done} images done`];
    if (items.length > 1 && unsure) parts.push(`${unsure} “don't know”`);
    if (items.length > 1 && failed) parts.push(`${failed} with an error`);
    status.textContent = items.length === 1 && done ? `${items[0].name}: ${verdict(items[0].found)}` : parts.filter(Boolean).join(", ");
    status.classList.toggle("unseen", items.length === 1 && done === 1);
    by("many").hidden = items.length < 2;
    by("csv").disabled = done < items.length;
    by("drop").classList.toggle("small", items.length > 0);
  };

  const work = async () => {
    running += 1;
    for (let item; (item = items.find((each) => !each.begun)); ) {
      const started = clearings;
      item.begun = true;
      thumbnail(item);
      item.found = await ask(item.file);
      if (started !== clearings) continue;
      fill(item);
      if (chosen === item) show(item);
      report();
    }
    running -= 1;
  };

  const add = (files) => {
    const images = [...files].slice(0, Math.max(0, MAX_IMAGES - items.length));
    if (!images.length) return;
    for (const file of images) {
      const row = body.insertRow(), name = file.webkitRelativePath || file.name || "pasted image";
      const item = { file, name, row, begun: false, found: null };
      row.insertCell().append(element("span", undefined, "blank"));
      const button = element("button", name, "file");
      button.type = "button";
      row.insertCell().append(button);
      row.insertCell().textContent = "…";
      row.insertCell().className = "number";
      if (hasSets) row.insertCell().className = "wide";
      row.setAttribute("aria-selected", "false");
      row.addEventListener("click", () => { chosenByHand = true; choose(item); by("one").scrollIntoView({ block: "nearest" }); });
      items.push(item);
    }
    if (!chosenByHand || !chosen) choose(items[items.length - images.length]);
    report();
    for (let free = PARALLEL - running; free > 0; free -= 1) work();
  };

  const clear = () => {
    clearings += 1;
    items.length = 0;
    chosen = null;
    chosenByHand = false;
    body.replaceChildren();
    by("one").hidden = true;
    report();
    status.textContent = "";
    input.focus();
  };

  // The columns of `cnnkit predict --out x.csv`.
  const download = () => {
    const quote = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const cell = (value) => (value === null || value === undefined ? "" : quote(String(value)));
    const lines = [["path", "predicted", "probability", "abstained", "error", ...(hasSets ? ["label_set"] : [])].join(",")];
    for (const { name, found } of items) {
      const cells = [name, found.predicted, found.probability, found.abstained === true, found.error];
      if (hasSets) cells.push(JSON.stringify(found.label_set || []));
      lines.push(cells.map(cell).join(","));
    }
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    link.download = "predictions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  input.addEventListener("change", () => { add(input.files); input.value = ""; });
  by("drop").addEventListener("submit", (event) => event.preventDefault());
  by("csv").addEventListener("click", download);
  by("clear").addEventListener("click", clear);
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); add(event.clipboardData.files); } });
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    add(event.dataTransfer.files);
  });

  // Arrow keys move between the images of the table.
  body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const row = event.target.closest("tr");
    if (!step || !row) return;
    const next = step > 0 ? row.nextElementSibling : row.previousElementSibling;
    if (!next) return;
    event.preventDefault();
    const button = next.querySelector("button");
    button.click();
    button.focus();
  });
})();
