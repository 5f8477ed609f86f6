// One plot over the frames of an episode: lines, shaded parts, a cursor, and chunks of a policy.
"use strict";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const LEFT = 44, RIGHT = 6, TOP = 6, BOTTOM = 18;

// Round numbers, about `count` of them, from `lo` to `hi`.
const ticks = (lo, hi, count) => {
  const raw = (hi - lo) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((each) => each * power >= raw * 0.999) * power;
  const found = [];
  for (let k = Math.ceil(lo / step); k * step <= hi + step * 1e-6; k += 1) found.push(k * step);
  return { found, digits: Math.max(0, Math.min(4, -Math.floor(Math.log10(step) + 1e-9))) };
};

class Plot {
  // options: title, unit, fps, lines [{name, colour, values, width, alpha, from}], marks [frames], bands [{colour, runs}],
  // chunks {every, steps, at(k, i)}, still: no cursor, the x axis is its own.
  constructor(host, options) {
    Object.assign(this, options);
    const panel = document.createElement("section");
    panel.className = "panel plot";
    const head = document.createElement("h2");
    head.append(`${this.title} (${this.unit})`);
    this.readout = document.createElement("span");
    head.append(this.readout);
    this.sheet = document.createElement("div");
    this.sheet.className = this.still ? "sheet still" : "sheet";
    this.sheet.setAttribute("role", "img");
    this.sheet.setAttribute("aria-label", `${this.title} over time, ${this.unit}: ${this.lines.map((line) => line.name).join(", ")}`);
    [this.base, this.over] = [0, 1].map(() => this.sheet.appendChild(document.createElement("canvas")));
    panel.append(head, this.sheet);
    host.append(panel);
  }

  // `lo` and `hi` are frames; a plot that stands still has them of its own.
  x(frame) { return LEFT + (frame - this.lo) / (this.hi - this.lo) * (this.width - LEFT - RIGHT); }
  y(value) { return TOP + (this.top - value) / (this.top - this.low) * (this.height - TOP - BOTTOM); }
  frameAt(x) { return this.lo + (x - LEFT) / (this.width - LEFT - RIGHT) * (this.hi - this.lo); }

  fit() {
    const scale = window.devicePixelRatio || 1, box = this.sheet.getBoundingClientRect();
    this.width = box.width; this.height = box.height;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(box.width * scale); canvas.height = Math.round(box.height * scale);
      canvas.getContext("2d").setTransform(scale, 0, 0, scale, 0, 0);
    }
  }

  range() {
    let low = Infinity, top = -Infinity;
    for (const line of this.lines) {
      const first = Math.max(0, Math.floor(this.lo)), last = Math.min(line.values.length - 1, Math.ceil(this.hi));
      for (let k = first; k <= last; k += 1) {
        if (line.values[k] < low) low = line.values[k];
        if (line.values[k] > top) top = line.values[k];
      }
    }
    for (const k of this.fanned()) {
      for (let i = 0; i < this.chunks.steps; i += 1) {
        const at = k * this.chunks.every + i, value = this.chunks.at(k, i);
        if (at >= this.lo && at <= this.hi) { low = Math.min(low, value); top = Math.max(top, value); }
      }
    }
    if (!(low <= top)) [low, top] = [0, 1];
    if (this.fromZero) low = Math.min(0, low);
    const room = Math.max((top - low) * 0.06, this.fromZero ? 0.05 : 0.5);
    this.low = this.fromZero ? low : low - room; this.top = top + room;
  }

  // The chunks that are always there, faintly.
  fanned() {
    if (!this.chunks || !(this.fans > 0)) return [];
    const apart = Math.max(1, Math.round(this.fans / this.chunks.every));
    return Array.from({ length: Math.ceil(this.chunks.count / apart) }, (_, k) => k * apart);
  }

  draw(lo, hi) {
    [this.lo, this.hi] = this.still ? [0, Math.max(1, this.lines[0].values.length - 1)] : [lo, hi];
    this.range();
    const pen = this.base.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = "11px system-ui, sans-serif";
    this.axes(pen);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, TOP, this.width - LEFT - RIGHT, this.height - TOP - BOTTOM);
    pen.clip();
    for (const band of this.bands ?? []) {
      pen.fillStyle = style(band.colour); pen.globalAlpha = 0.16;
      for (const [first, end] of band.runs) pen.fillRect(this.x(first), TOP, this.x(end) - this.x(first), this.height - TOP - BOTTOM);
    }
    pen.globalAlpha = 1;
    for (const k of this.fanned()) this.chunk(pen, k, 0.45, 1);
    for (const line of this.lines) {
      pen.strokeStyle = style(line.colour); pen.lineWidth = line.width ?? 1.5; pen.globalAlpha = line.alpha ?? 1;
      this.path(pen, 0, line.values.length, (k) => line.values[k]);
    }
    pen.globalAlpha = 1;
    pen.fillStyle = style("stop");
    for (const frame of this.marks ?? []) pen.fillRect(this.x(frame) - 1, this.height - BOTTOM - 7, 2, 7);
    pen.restore();
  }

  axes(pen) {
    const seconds = ticks(this.lo / this.fps, this.hi / this.fps, Math.max(2, this.width / 90));
    const values = ticks(this.low, this.top, 4);
    pen.strokeStyle = style("line"); pen.fillStyle = style("soft"); pen.lineWidth = 1;
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const value of values.found) {
      const y = this.y(value);
      this.segment(pen, LEFT, y, this.width - RIGHT, y);
      pen.fillText(value.toFixed(values.digits), LEFT - 5, y);
    }
    pen.textBaseline = "top";
    for (const second of seconds.found) {
      const x = this.x(second * this.fps);
      this.segment(pen, x, TOP, x, this.height - BOTTOM);
      pen.textAlign = x > this.width - 24 ? "right" : "center";
      pen.fillText(`${second.toFixed(seconds.digits)} s`, Math.min(x, this.width - RIGHT), this.height - BOTTOM + 4);
    }
  }

  segment(pen, x0, y0, x1, y1) { pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke(); }

  // A line through `count` values from frame `first` on; what is not a number is a gap.
  path(pen, first, count, value) {
    pen.beginPath();
    let drawing = false;
    const begin = Math.max(0, Math.floor(this.lo) - first - 1), end = Math.min(count, Math.ceil(this.hi) - first + 2);
    for (let k = begin; k < end; k += 1) {
      const v = value(k);
      if (Number.isFinite(v)) {
        if (drawing) pen.lineTo(this.x(first + k), this.y(v)); else pen.moveTo(this.x(first + k), this.y(v));
      }
      drawing = Number.isFinite(v);
    }
    pen.stroke();
  }

  chunk(pen, k, alpha, width) {
    pen.strokeStyle = style("chunk"); pen.globalAlpha = alpha; pen.lineWidth = width;
    this.path(pen, k * this.chunks.every, this.chunks.steps, (i) => this.chunks.at(k, i));
    pen.globalAlpha = 1;
  }

  // What moves with the cursor.
  point(frame) {
    if (this.still) return;
    const pen = this.over.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width - LEFT - RIGHT, this.height - BOTTOM);
    pen.clip();
    pen.strokeStyle = style("ink"); pen.lineWidth = 1; pen.globalAlpha = 0.55;
    this.segment(pen, this.x(frame), 0, this.x(frame), this.height - BOTTOM);
    pen.globalAlpha = 1;
    if (this.chunks) this.chunk(pen, Math.min(this.chunks.count - 1, Math.floor(frame / this.chunks.every)), 1, 2.5);
    for (const line of this.lines) {
      pen.fillStyle = style(line.colour);
      pen.beginPath();
      pen.arc(this.x(frame), this.y(line.values[frame]), 3, 0, 7);
      pen.fill();
    }
    pen.restore();
    this.readout.textContent = this.lines.map((line) => {
      const value = line.values[frame];
      return `${line.name} ${Number.isFinite(value) ? value.toFixed(1) : "none"}`;
    }).join("  ");
  }
}
