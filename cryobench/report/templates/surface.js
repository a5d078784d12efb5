// Naive surface nets: a vertex in every cell that the surface passes through, a quadrilateral about every edge it crosses.
function surfaceNet(values, n, level, origin, size) {
  const at = new Int32Array(n * n * n).fill(-1), x = [], y = [], z = [], i = [], j = [], k = [];
  const corners = [0, 1, n, n + 1, n * n, n * n + 1, n * n + n, n * n + n + 1];
  const edges = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]];
  for (let c = 0; c < n - 1; c++) for (let b = 0; b < n - 1; b++) for (let a = 0; a < n - 1; a++) {
    const first = a + n * (b + n * c);
    let inside = 0;
    for (let v = 0; v < 8; v++) if (values[first + corners[v]] > level) inside |= 1 << v;
    if (inside === 0 || inside === 255) continue;
    let sx = 0, sy = 0, sz = 0, count = 0;
    for (const [from, to] of edges) {
      if (((inside >> from) & 1) === ((inside >> to) & 1)) continue;
      const p = values[first + corners[from]], q = values[first + corners[to]], t = (level - p) / (q - p);
      sx += (from & 1) + t * ((to & 1) - (from & 1));
      sy += ((from >> 1) & 1) + t * (((to >> 1) & 1) - ((from >> 1) & 1));
      sz += (from >> 2) + t * ((to >> 2) - (from >> 2));
      count++;
    }
    at[first] = x.length;
    x.push((a + sx / count - origin) * size); y.push((b + sy / count - origin) * size); z.push((c + sz / count - origin) * size);
    const steps = [1, n, n * n], where = [a, b, c];
    for (let axis = 0; axis < 3; axis++) {
      const u = (axis + 1) % 3, v = (axis + 2) % 3;
      if (where[u] === 0 || where[v] === 0 || (inside & 1) === ((inside >> (1 << axis)) & 1)) continue;
      let ring = [at[first], at[first - steps[u]], at[first - steps[u] - steps[v]], at[first - steps[v]]];
      if (!(inside & 1)) ring = ring.reverse();
      i.push(ring[0], ring[0]); j.push(ring[1], ring[2]); k.push(ring[2], ring[3]);
    }
  }
  return { x, y, z, i, j, k };
}
function decode(volume) {
  const values = Uint8Array.from(atob(volume.bytes), (character) => character.charCodeAt(0));
  const above = new Float64Array(257); // voxels of at least this step
  for (const value of values) above[value] += 1;
  for (let step = 254; step >= 0; step--) above[step] += above[step + 1];
  return { ...volume, values, above };
}
function levelThatEncloses(volume, fraction) {
  const wanted = fraction * volume.values.length;
  let step = 1;
  while (step < 255 && volume.above[step + 1] > wanted) step++;
  const span = volume.above[step] - volume.above[step + 1];
  return step - 0.5 + (span > 0 ? Math.min(Math.max((volume.above[step] - wanted) / span, 0), 1) : 0);
}
function followSlider(plot, surface) {
  const slider = document.getElementById("level"), said = document.getElementById("level-said");
  const volumes = surface.volumes.map(decode), { least, most, first } = surface.enclosed;
  const side = surface.box * surface.voxel_size;
  let waiting = false;
  const show = () => {
    waiting = false;
    const fraction = least * Math.pow(most / least, slider.value / slider.max);
    const levels = volumes.map((volume) => levelThatEncloses(volume, fraction));
    const nets = volumes.map((volume, v) => surfaceNet(volume.values, surface.box, levels[v], surface.origin, surface.voxel_size));
    const deviations = volumes.map((volume, v) => `${surface.names[v]} at ${(volume.low + volume.step * levels[v]).toFixed(1)} σ`);
    said.textContent = `${(fraction * side ** 3 / 1000).toPrecision(3)} nm³ enclosed (${(100 * fraction).toPrecision(2)} % of the box): ${deviations.join(", ")}`;
    const columns = {};
    for (const key of ["x", "y", "z", "i", "j", "k"]) columns[key] = nets.map((net) => net[key]);
    return Plotly.restyle(plot, columns);
  };
  slider.value = slider.max * Math.log(first / least) / Math.log(most / least);
  slider.addEventListener("input", () => {
    if (!waiting) { waiting = true; requestAnimationFrame(show); }
  });
  let turning = false;
  const turn = (change) => {
    const key = Object.keys(change).find((name) => name.endsWith(".camera"));
    if (!key || turning) return;
    turning = true;
    const others = {};
    for (const scene of Object.keys(plot.layout)) if (/^scene\d*$/.test(scene) && `${scene}.camera` !== key) others[`${scene}.camera`] = change[key];
    Plotly.relayout(plot, others).then(() => { turning = false; });
  };
  plot.on("plotly_relayouting", turn);
  plot.on("plotly_relayout", turn);
  return show();
}
