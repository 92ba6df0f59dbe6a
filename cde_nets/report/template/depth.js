// Test images on their way through the network: tiles of channels, and the logits.
(() => {
  const report = window.report, depth = report.data.depth, last = depth.titles.length - 1;
  const slider = document.getElementById("depth-step"), where = document.getElementById("depth-where");
  const tiles = document.getElementById("depth-tiles"), said = document.getElementById("depth-said");
  let image = depth.images[0];

  const bytes = (packed) => Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const rgb = (name) => report.colour(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));

  const paint = (canvas, width, height, values, shade) => {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
    values.forEach((value, n) => picture.data.set([...shade(value), 255], 4 * n));
    context.putImageData(picture, 0, 0);
  };
  const between = (a, b, t) => a.map((value, n) => Math.round(value + (b[n] - value) * t));

  const digits = () => {
    const paper = rgb("paper"), ink = rgb("ink");
    depth.images.forEach((one, n) => {
      paint(document.getElementById("image-" + n).parentNode.querySelector("canvas"), depth.side, depth.side, bytes(one.pixels),
        (value) => between(paper, ink, value / 255));
    });
  };

  depth.images.forEach((one, n) => {
    const right = one.label === one.answer, label = document.createElement("label");
    const input = document.createElement("input"), canvas = document.createElement("canvas"), text = document.createElement("span");
    Object.assign(input, { type: "radio", name: "image", id: "image-" + n, checked: n === 0 });
    input.setAttribute("aria-label", `Test image ${one.number}: a ${one.label}, answered ${one.answer}`);
    text.textContent = right ? one.answer : `${one.label} → ${one.answer}`;
    text.setAttribute("aria-hidden", "true");
    canvas.setAttribute("aria-hidden", "true");
    label.append(input, canvas, text);
    input.addEventListener("change", () => {
      image = one;
      show();
    });
    document.getElementById(right ? "images-right" : "images-wrong").append(label);
  });
  for (const kind of ["right", "wrong"]) {
    const place = document.getElementById("images-" + kind);
    if (!place.children.length) place.closest("fieldset").hidden = true;
  }

  const cells = Array.from({ length: depth.classes }, (_, c) => {
    const cell = document.createElement("div"), canvas = document.createElement("canvas");
    const name = document.createElement("b"), value = document.createElement("span");
    name.textContent = c;
    canvas.setAttribute("aria-hidden", "true");
    cell.append(canvas, name, value);
    tiles.append(cell);
    return { cell, canvas, value };
  });

  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);

  const logits = (step) => {
    const wrong = image.label !== image.answer;
    // The label's line is drawn last, over the others.
    const order = cells.map((_, c) => c).sort((a, b) => (a === image.label) - (b === image.label));
    const data = order.map((c) => {
      const label = c === image.label, answer = wrong && c === image.answer;
      return {
        type: "scatter", mode: "lines", x: depth.titles.map((_, n) => n), y: image.logits.map((row) => row[c]), name: String(c),
        line: { color: label ? "@accent" : answer ? "@ink" : "@soft", width: label || answer ? 2.5 : 1, dash: answer ? "dash" : "solid" },
        opacity: label || answer ? 1 : 0.5, hovertemplate: `channel ${c}: %{y:.2f}<extra></extra>`,
      };
    });
    const ends = wrong ? [image.label, image.answer] : [image.label];
    // On a phone a stage and a time have to do; the caption of the slider says the rest.
    const narrow = innerWidth < 640;
    const ticks = depth.titles.map((title) => (narrow ? title.replace(/stage (\d+), t = /, "$1 · ") : title.replace(", ", "<br>")));
    report.draw("chart-logits", {
      data,
      layout: {
        showlegend: false,
        xaxis: { tickvals: depth.titles.map((_, n) => n), ticktext: ticks, tickangle: 0, tickfont: { size: narrow ? 10 : 12 }, range: [-0.2, last + 0.25], title: narrow ? { text: "stage · t" } : undefined },
        yaxis: { title: { text: "logit" } },
        margin: { l: 52, r: 8, t: 8, b: 56 },
        shapes: [{ type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: 1, line: { color: "@soft", width: 1, dash: "dot" } }],
        annotations: ends.map((c) => ({
          x: last, y: image.logits[last][c], text: String(c), showarrow: false, xanchor: "left", xshift: 5,
          font: { color: c === image.label ? "@accent" : "@ink", size: 13 },
        })),
      },
    });
  };

  const show = () => {
    const step = Number(slider.value), [height, width] = depth.sizes[step], size = height * width;
    const low = rgb("low"), paper = rgb("paper"), high = rgb("high"), state = bytes(image.states[step]);
    const shade = (value) => (value < 127.5 ? between(paper, low, 1 - value / 127.5) : between(paper, high, value / 127.5 - 1));
    cells.forEach(({ cell, canvas, value }, c) => {
      paint(canvas, width, height, state.subarray(c * size, (c + 1) * size), shade);
      value.textContent = signed(image.logits[step][c]);
      cell.classList.toggle("label", c === image.label);
    });
    where.textContent = depth.titles[step];
    slider.setAttribute("aria-valuetext", depth.titles[step]);
    const there = image.logits[step], leads = there.indexOf(Math.max(...there));
    const verdict = image.label === image.answer ? "answered right" : `answered ${image.answer}`;
    said.textContent = `Test image ${image.number}, a ${image.label}, ${verdict}. At this depth channel ${leads} leads with ${signed(there[leads])}.`;
    logits(step);
  };

  slider.max = last;
  slider.value = last;
  slider.addEventListener("input", show);
  report.onscheme.push(() => {
    digits();
    show();
  });
  report.depth = { image: () => image, show };
  if (image) {
    digits();
    show();
  }
})();
