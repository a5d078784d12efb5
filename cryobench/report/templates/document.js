// Axes in angstrom: round lengths, none too near to another, whatever part of the axis is seen.
function angstromTicks(lengths, low, high) {
  const gap = (high - low) / 9, ticks = [];
  for (const length of lengths) {
    const at = 1 / length;
    if (at >= low && at <= high * 1.001 && (ticks.length === 0 || at - ticks[ticks.length - 1] >= gap)) ticks.push(at);
  }
  return { "xaxis2.tickvals": ticks, "xaxis2.ticktext": ticks.map((at) => `${+(1 / at).toPrecision(3)} Å`) };
}
function followZoom(plot, lengths) {
  plot.on("plotly_relayout", (change) => {
    if (!Object.keys(change).some((key) => key.startsWith("xaxis.") || key.startsWith("xaxis2.range"))) return;
    const [low, high] = plot.layout.xaxis.range;
    Plotly.relayout(plot, angstromTicks(lengths, low, high));
  });
}
function place(name) {
  const { data, layout } = drawings[name], zoom = zoomable.has(name);
  if (zoom && window.matchMedia("(pointer: fine)").matches) layout.dragmode = "zoom";
  return Plotly.newPlot(name, data, layout, {
    responsive: true, displaylogo: false, displayModeBar: zoom && document.getElementById(name).clientWidth > 700 ? "hover" : false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  }).then((plot) => {
    if (layout.meta && layout.meta.angstroms) followZoom(plot, layout.meta.angstroms);
    if (layout.meta && layout.meta.surface) followSlider(plot, layout.meta.surface);
  });
}
// surfaces take longest, and last
const isSurface = (name) => Boolean((drawings[name].layout.meta || {}).surface), names = Object.keys(drawings);
const placed = Promise.all(names.filter((name) => !isSurface(name)).map(place)).then(() => Promise.all(names.filter(isSurface).map(place)));
for (const section of document.querySelectorAll("details")) section.addEventListener("toggle", () => {
  if (section.open) for (const plot of section.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(plot);
});
