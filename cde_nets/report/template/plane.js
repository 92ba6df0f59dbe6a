// A controlled ODE in the plane, integrated here by the same steps that cde_nets takes.
(() => {
  const report = window.report, plane = report.data.plane;
  const svg = document.getElementById("plane"), said = document.getElementById("plane-said");
  const slider = document.getElementById("plane-depth"), where = document.getElementById("plane-where");
  const steps = plane.times.length - 1, count = plane.coefficients.length, intervals = plane.control.length;
  const LIMIT = 1.5, ARROWS = 15;
  const state = { points: plane.points.map((p) => [...p]), on: Array(count).fill(true), paths: [] };

  // chi(|x|): 1 inside of the radius, 0 outside of the outer one, smooth between, as in cde_nets.fields.Cutoff.
  const chi = ([x, y]) => {
    const raw = (x * x + y * y - plane.radius ** 2) / (plane.outer ** 2 - plane.radius ** 2);
    if (raw >= 1 - plane.edge) return 0;
    const tau = Math.max(raw, plane.edge);
    return 1 / (1 + Math.exp(1 / (1 - tau) - 1 / tau));
  };

  // sum_i u_i c_i once a step: the velocity is linear in the control.
  const combined = (u) =>
    [0, 1].map((j) => plane.exponents.map((_, a) => u.reduce((sum, ui, i) => sum + ui * plane.coefficients[i][j][a], 0)));

  const velocity = (c, x) => {
    const factor = chi(x);
    if (factor === 0) return [0, 0];
    const monomials = plane.exponents.map(([a, b]) => x[0] ** a * x[1] ** b);
    return c.map((row) => factor * row.reduce((sum, value, a) => sum + value * monomials[a], 0));
  };

  const moved = (x, h, v) => [x[0] + h * v[0], x[1] + h * v[1]];

  const rk4 = (c, x, h) => {
    const k1 = velocity(c, x);
    const k2 = velocity(c, moved(x, h / 2, k1));
    const k3 = velocity(c, moved(x, h / 2, k2));
    const k4 = velocity(c, moved(x, h, k3));
    return [0, 1].map((j) => x[j] + (h / 6) * (k1[j] + 2 * k2[j] + 2 * k3[j] + k4[j]));
  };

  // u of the step that begins at times[n].
  const control = (n) => plane.control[Math.floor((n * intervals) / steps)].map((u, i) => (state.on[i] ? u : 0));

  const integrate = () => {
    const path = [state.points];
    for (let n = 0; n < steps; n++) {
      const c = combined(control(n)), h = plane.times[n + 1] - plane.times[n];
      path.push(path[n].map((x) => rk4(c, x, h)));
    }
    state.paths = state.points.map((_, p) => path.map((at) => at[p]));
  };

  const make = (name, attributes, parent) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  // Up is up: y is turned over in every place that draws, by the numbers themselves, so that text stays upright.
  const line = (points) => "M" + points.map(([x, y]) => x + " " + -y).join("L");

  make("line", { class: "axis", x1: -2, x2: 2, y1: 0, y2: 0 }, svg);
  make("line", { class: "axis", x1: 0, x2: 0, y1: -2, y2: 2 }, svg);
  const arrows = make("path", { class: "arrows" }, svg);
  const whole = state.points.map((_, p) => make("path", { class: "whole", id: "whole-" + (p + 1) }, svg));
  const drawn = state.points.map((_, p) => make("path", { class: "path", id: "path-" + (p + 1) }, svg));
  for (const [x, y] of plane.targets) make("circle", { class: "ring", cx: x, cy: -y, r: 0.055 }, svg);
  const now = state.points.map(() => make("circle", { class: "now", r: 0.032 }, svg));

  const starts = state.points.map((_, p) => {
    const g = make("g", {
      class: "start", id: "start-" + (p + 1), tabindex: 0, role: "slider", "aria-roledescription": "movable point",
      "aria-label": "Start of point " + (p + 1), "aria-valuemin": -LIMIT, "aria-valuemax": LIMIT,
    }, svg);
    make("circle", { class: "grip", r: 0.12 }, g);
    make("circle", { class: "halo", r: 0.085 }, g);
    make("circle", { class: "dot", r: 0.045 }, g);
    make("text", { x: 0.07, y: -0.07 }, g).textContent = p + 1;
    return g;
  });

  const place = ([x, y]) => "(" + [x, y].map((v) => v.toFixed(2).replace("-", "−")).join(", ") + ")";
  const say = (p) => {
    const end = state.paths[p][steps], target = plane.targets[p];
    const off = Math.hypot(end[0] - target[0], end[1] - target[1]);
    said.textContent = `Point ${p + 1} starts at ${place(state.points[p])} and ends at ${place(end)}, ${off.toFixed(2)} from its ring.`;
  };

  const drawArrows = (n) => {
    const c = combined(control(Math.min(n, steps - 1))), parts = [];
    const gap = 3.2 / ARROWS;
    for (let a = 0; a < ARROWS; a++) {
      for (let b = 0; b < ARROWS; b++) {
        const x = [-1.6 + (a + 0.5) * gap, -1.6 + (b + 0.5) * gap], v = velocity(c, x), size = Math.hypot(...v);
        if (size < 1e-6) continue;
        // Lengths saturate: fast places would cover their neighbours.
        const long = (0.8 * gap * size) / (size + 1.5) / size, tip = moved(x, long, v);
        const wing = (turn) => {
          const angle = Math.atan2(v[1], v[0]) + turn;
          return [tip[0] + 0.03 * Math.cos(angle), tip[1] + 0.03 * Math.sin(angle)];
        };
        parts.push(line([x, tip]), line([wing(2.6), tip, wing(-2.6)]));
      }
    }
    arrows.setAttribute("d", parts.join(""));
  };

  const draw = () => {
    integrate();
    show();
  };

  const show = () => {
    const n = Math.round(Number(slider.value) * steps);
    state.paths.forEach((path, p) => {
      whole[p].setAttribute("d", line(path));
      drawn[p].setAttribute("d", line(path.slice(0, n + 1)));
      now[p].setAttribute("cx", path[n][0]);
      now[p].setAttribute("cy", -path[n][1]);
      const [x, y] = state.points[p];
      starts[p].setAttribute("transform", `translate(${x} ${-y})`);
      starts[p].setAttribute("aria-valuenow", x);
      starts[p].setAttribute("aria-valuetext", `${x.toFixed(2)} across, ${y.toFixed(2)} up`);
    });
    where.textContent = plane.times[n].toFixed(2);
    slider.setAttribute("aria-valuetext", "depth " + plane.times[n].toFixed(2));
    for (const cursor of document.querySelectorAll("#plane-controls .cursor")) {
      cursor.setAttribute("x1", n / steps);
      cursor.setAttribute("x2", n / steps);
    }
    drawArrows(n);
  };

  const put = (p, [x, y]) => {
    const within = (v) => Math.min(LIMIT, Math.max(-LIMIT, v));
    state.points[p] = [within(x), within(y)];
    draw();
    say(p);
  };

  starts.forEach((g, p) => {
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return [point.x, -point.y];
    };
    let grip = null;
    g.addEventListener("pointerdown", (event) => {
      const [x, y] = at(event);
      grip = [state.points[p][0] - x, state.points[p][1] - y];
      g.setPointerCapture(event.pointerId);
      g.classList.add("dragged");
      g.focus({ preventScroll: true });
      event.preventDefault();
    });
    g.addEventListener("pointermove", (event) => {
      if (grip) put(p, moved(at(event), 1, grip));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      g.addEventListener(end, () => {
        grip = null;
        g.classList.remove("dragged");
      });
    }
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    g.addEventListener("keydown", (event) => {
      const way = ways[event.key];
      if (!way || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      put(p, moved(state.points[p], event.shiftKey ? 0.01 : 0.05, way));
    });
    g.addEventListener("focus", () => say(p));
  });

  const bound = Math.max(...plane.control.flat().map(Math.abs));
  const boxes = state.on.map((_, i) => {
    const label = document.createElement("label"), box = document.createElement("input"), name = document.createElement("span");
    Object.assign(box, { type: "checkbox", checked: true, id: "control-" + (i + 1) });
    name.innerHTML = `u<sub>${i + 1}</sub>`;
    label.append(box, name);
    const chart = make("svg", { viewBox: "0 -1 1 2", preserveAspectRatio: "none", "aria-hidden": "true" }, label);
    make("line", { x1: 0, x2: 1, y1: 0, y2: 0 }, chart);
    make("line", { class: "cursor", y1: -1, y2: 1 }, chart);
    const stairs = plane.control.flatMap((u, n) => [[n / intervals, u[i] / bound], [(n + 1) / intervals, u[i] / bound]]);
    make("path", { d: line(stairs) }, chart);
    box.addEventListener("change", () => {
      state.on[i] = box.checked;
      draw();
      const used = state.on.filter(Boolean).length;
      said.textContent = `Control ${i + 1} is ${box.checked ? "on" : "off"}; ${used} of ${count} are on.`;
    });
    document.getElementById("plane-controls").append(label);
    return box;
  });

  slider.step = 1 / steps;
  slider.value = 1;
  slider.addEventListener("input", show);

  const play = document.getElementById("plane-play"), reduced = matchMedia("(prefers-reduced-motion: reduce)");
  let frame = 0;
  const stop = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    play.textContent = "Play";
  };
  play.addEventListener("click", () => {
    if (frame) return stop();
    const began = performance.now();
    const tick = (time) => {
      const t = Math.min(1, Math.max(0, (time - began) / 4000));
      slider.value = t;
      show();
      if (t < 1) frame = requestAnimationFrame(tick);
      else stop();
    };
    play.textContent = "Stop";
    frame = requestAnimationFrame(tick);
  });
  slider.addEventListener("pointerdown", stop);
  // Who asked for less motion moves the slider.
  const calm = () => {
    stop();
    play.hidden = reduced.matches;
  };
  reduced.addEventListener("change", calm);
  calm();

  document.getElementById("plane-reset").addEventListener("click", () => {
    stop();
    state.points = plane.points.map((p) => [...p]);
    state.on.fill(true);
    boxes.forEach((box) => (box.checked = true));
    slider.value = 1;
    draw();
    said.textContent = "All points and controls are as they were.";
  });

  draw();
  report.plane = { ends: () => state.paths.map((path) => path[steps]), points: () => state.points };
})();
