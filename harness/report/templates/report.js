"use strict";
(() => {
  const PAGE = 50;

  const themes = document.getElementById("theme");
  themes.hidden = false;
  themes.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    themes.setAttribute("aria-pressed", String(!dark));
  });

  // "0.9832 ± 0.0021", "12*" and ".031" sort by their first number; what has none comes last.
  const number = (text) => {
    const found = text.replace("−", "-").match(/[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i);
    return found ? parseFloat(found[0]) : NaN;
  };
  const compare = (a, b, numeric) => {
    if (!numeric) return a.localeCompare(b, undefined, { numeric: true });
    const [x, y] = [number(a), number(b)];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return x - y;
  };

  document.querySelectorAll(".table").forEach((box) => {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const numeric = [...table.tHead.rows[0].cells].map((cell) => cell.classList.contains("n"));
    const stored = box.querySelector("script");
    const rows = stored
      ? JSON.parse(stored.textContent)
      : [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
    let shown = PAGE, sorted = -1, down = false;
    const tools = box.querySelector(".tools");
    const input = tools && tools.querySelector("input");
    const more = tools && tools.querySelector("button");
    const output = tools && tools.querySelector("output");

    const draw = () => {
      const words = input ? input.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
      let found = rows.filter((row) => {
        const text = row.join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
      if (sorted >= 0) {
        found = [...found].sort((a, b) => {
          const order = compare(a[sorted], b[sorted], numeric[sorted]);
          const missing = numeric[sorted] && (isNaN(number(a[sorted])) || isNaN(number(b[sorted])));
          return down && !missing ? -order : order;
        });
      }
      body.replaceChildren(...found.slice(0, shown).map((row) => {
        const line = document.createElement("tr");
        row.forEach((text, i) => {
          const cell = document.createElement("td");
          cell.textContent = text;
          if (numeric[i]) cell.className = "n";
          line.append(cell);
        });
        return line;
      }));
      if (output) output.textContent = `${Math.min(shown, found.length)} of ${found.length} rows`;
      if (more) more.hidden = found.length <= shown;
    };

    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        down = sorted === i ? !down : false;
        sorted = i;
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", down ? "descending" : "ascending");
        draw();
      });
    });
    if (tools) {
      tools.hidden = false;
      input.addEventListener("input", () => { shown = PAGE; draw(); });
      more.addEventListener("click", () => { shown = Infinity; draw(); });
      draw();
    }
  });

  // A file of its own for a paper: light, on white, with its style inside.
  const style = document.getElementById("figure-style").textContent;
  const alone = (svg) => {
    const copy = svg.cloneNode(true);
    const [, , wide, high] = svg.getAttribute("viewBox").split(" ").map(Number);
    copy.setAttribute("width", wide);
    copy.setAttribute("height", high);
    const css = document.createElementNS("http://www.w3.org/2000/svg", "style");
    css.textContent = style.split("@media")[0] + "svg.figure{background:#fff}";
    copy.prepend(css);
    return { text: new XMLSerializer().serializeToString(copy), wide, high };
  };
  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const png = ({ text, wide, high }, name) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [wide * 3, high * 3];
      const ink = canvas.getContext("2d");
      ink.fillStyle = "#fff";
      ink.fillRect(0, 0, canvas.width, canvas.height);
      ink.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(blob, name), "image/png");
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  };
  document.querySelectorAll("figure").forEach((figure) => {
    const actions = figure.querySelector(".actions");
    actions.hidden = false;
    actions.addEventListener("click", (event) => {
      const kind = event.target.dataset.save;
      if (!kind) return;
      const made = alone(figure.querySelector("svg"));
      if (kind === "png") png(made, figure.id + ".png");
      else save(new Blob([made.text], { type: "image/svg+xml" }), figure.id + ".svg");
    });
  });
})();
