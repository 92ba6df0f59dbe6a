"use strict";
// What the three scripts share, and what a console or a test may ask.
window.report = { data: JSON.parse(document.getElementById("data").textContent) };

(() => {
  const report = window.report;
  const drawn = new Map();

  // A name such as "@accent" is the colour that the page's scheme, light or dark, has under it.
  report.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  const resolved = (value) => {
    if (typeof value === "string") return /^@[a-z]+$/.test(value) ? report.colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map(resolved);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, resolved(inner)]));
  };

  const axis = (given) => ({
    gridcolor: "@line", linecolor: "@line", zerolinecolor: "@line", tickcolor: "@line", ticks: "outside", ticklen: 4,
    fixedrange: true, ...given,
  });

  const layout = (given) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "@soft" },
    margin: { l: 52, r: 8, t: 8, b: 44 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: "@paper", bordercolor: "@line", font: { color: "@ink" } },
    ...given, xaxis: axis(given.xaxis), yaxis: axis(given.yaxis),
  });

  report.draw = (id, chart) => {
    drawn.set(id, chart);
    if (!window.Plotly) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    Plotly.react(id, resolved(chart.data), resolved({ ...layout(chart.layout), transition: still ? { duration: 0 } : undefined }), {
      responsive: true, displayModeBar: false,
    });
  };

  const again = () => {
    for (const [id, chart] of drawn) report.draw(id, chart);
  };

  const unpack = async () => {
    const packed = document.getElementById("plotly-packed");
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    packed.remove();
  };

  for (const name of ["loss", "error", "confusion", "controls"]) report.draw("chart-" + name, report.data.charts[name]);

  report.ready = unpack().then(again).catch((error) => {
    for (const id of drawn.keys()) {
      const place = document.getElementById(id);
      place.classList.add("missing");
      place.textContent = "This browser could not unpack the charts (" + error + "); the tables hold their numbers.";
    }
  });
  report.onscheme = [again];
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => report.onscheme.forEach((f) => f()));
})();
