"use strict";
// What a page does beyond showing: timelines to zoom and pan, tables to sort and filter. Names reach it as JSON, and
// leave it as text nodes or as letters on a canvas; nothing here makes markup out of text, or fetches anything.
(() => {
  const NAME_WIDTH = 165, ROW = 17, RULER = 26, GAP = 7, NARROW = 640, LABEL = 14;
  const LEAST_NS = 20; // the shortest time that is shown across
  const SCALES = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]];
  const WORDS = {
    compute: "kernels", communication: "communication", h2d: "copy to the GPU", d2h: "copy to the host",
    copy: "other copies and sets", "call launch": "launch calls", "call copy": "copy calls",
    "call sync": "synchronizations", "sync sync": "waits for GPU work", "call host": "other CUDA calls", "wait other": "waits in the operating system",
    "profiler alarm": "the profiler's own time", "layer before": "layers", "nvtx unknown": "NVTX ranges",
    "idle unknown": "no GPU work", "request unknown": "inferences",
  };

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const count = (number) => number.toLocaleString("en-US");
  const duration = (ns) => {
    const size = Math.abs(ns);
    if (size < 999.5) return `${Math.round(ns)} ns`;
    const [unit, factor] = SCALES.find(([, each]) => size >= 0.9995 * each);
    const value = ns / factor;
    const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) * 1.0005)));
    return `${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${unit}`;
  };
  const at = (column, row) => (Array.isArray(column) ? column[row] : column);
  const short = (text) => (text.length <= 60 ? text : `${text.slice(0, 28)}…${text.slice(-28)}`);
  const between = (value, low, high) => Math.min(Math.max(value, low), high);

  // The first row of a column that is in order with at least this value.
  const first = (column, value) => {
    let low = 0, high = column.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (column[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  };

  class Lane {
    constructor(packed, texts) {
      Object.assign(this, packed);
      this.texts = texts;
      this.size = packed.s.length;
      this.start = new Float64Array(this.size);
      this.end = new Float64Array(this.size);
      this.reach = new Float64Array(this.size); // the latest end so far: in order, whatever is nested
      let time = 0, reach = -Infinity;
      for (let row = 0; row < this.size; row++) {
        this.start[row] = time += packed.s[row];
        this.end[row] = time + at(packed.d, row);
        this.reach[row] = reach = Math.max(reach, this.end[row]);
      }
      this.rows = 1 + (Array.isArray(packed.r) ? Math.max(...packed.r) : packed.r || 0);
      this.isGpu = packed.kind === "stream";
    }
    row(piece) { return this.r === undefined ? 0 : at(this.r, piece); }
    name(piece) {
      if (this.p !== undefined) return `busy for ${at(this.p, piece)} % of this part`;
      const text = at(this.n, piece);
      return text < 0 ? "" : this.texts[text];
    }
    more(piece) {
      const text = this.m === undefined ? null : at(this.m, piece);
      return text === null || text < 0 ? "" : this.texts[text];
    }
    queued(piece) { return this.q === undefined ? null : at(this.q, piece); }
    seen(from) { return first(this.reach, from); }
  }

  class Timeline {
    constructor(home) {
      this.home = home;
      this.canvas = home.querySelector("canvas");
      this.tip = home.querySelector(".tip");
      this.said = home.querySelector(".said");
      this.legend = home.querySelector(".legend");
      this.choice = home.querySelector("select");
      this.drawing = this.canvas.getContext("2d");
      this.pointers = new Map();
      this.lanes = new Map();
      this.widths = new Map(); // of texts at 11 pixels
      this.hover = this.chosen = this.mark = null;
      this.listen();
    }

    // The data are read when the timeline is first looked at: a page may hold many.
    open() {
      if (this.data) return;
      this.data = JSON.parse(document.getElementById(this.home.dataset.of).textContent);
      for (const [number, each] of this.data.windows.entries()) {
        const option = element("option", { value: number });
        option.textContent = each.title;
        this.choice.append(option);
      }
      this.show(0);
    }

    show(number, look) {
      this.window = this.data.windows[number];
      this.number = number;
      this.choice.value = number;
      if (!this.lanes.has(number)) {
        this.lanes.set(number, this.window.lanes.map((lane) => new Lane(lane, this.data.texts)));
      }
      this.shown = this.lanes.get(number);
      this.hover = this.chosen = null;
      this.mark = look || null;
      this.explain();
      this.resize();
      if (look) {
        const room = 0.4 * Math.max(look[1] - look[0], LEAST_NS);
        this.go(look[0] - room, look[1] + room);
      } else this.fit();
    }

    look(number) {
      this.open();
      const [window, low, high, code] = this.data.looks[number];
      this.show(window, [low, high]);
      this.say(`${code}: ${duration(high - low)}, marked in ${this.window.title}`);
      this.home.scrollIntoView({ block: "center" });
      this.canvas.focus({ preventScroll: true });
    }

    fit() {
      const [low, high] = this.window.look;
      const room = 0.04 * (high - low);
      this.go(low - room, high + room);
    }

    go(from, to) {
      const span = between(to - from, Math.min(LEAST_NS, this.window.span), this.window.span);
      this.from = between((from + to - span) / 2, 0, this.window.span - span);
      this.to = this.from + span;
      Object.assign(this.canvas.dataset, { window: this.number, from: this.from, to: this.to });
      this.redraw();
    }

    zoom(factor, around = 0.5) {
      const span = this.to - this.from, fixed = this.from + around * span;
      this.go(fixed - around * span * factor, fixed + (1 - around) * span * factor);
    }

    pan(share) {
      const by = share * (this.to - this.from);
      const kept = between(by, -this.from, this.window.span - this.to);
      this.go(this.from + kept, this.to + kept);
    }

    resize() {
      const width = Math.max(this.canvas.parentElement.clientWidth, 200);
      this.narrow = width < NARROW;
      this.left = this.narrow ? 0 : NAME_WIDTH;
      this.width = width;
      let top = RULER;
      this.tops = this.shown.map((lane) => {
        top += GAP + (this.narrow ? LABEL : 0);
        const mine = top;
        top += lane.rows * ROW;
        return mine;
      });
      this.height = top + GAP;
      this.ratio = window.devicePixelRatio || 1;
      this.canvas.width = Math.round(width * this.ratio);
      this.canvas.height = Math.round(this.height * this.ratio);
      this.canvas.style.height = `${this.height}px`;
      this.redraw();
    }

    redraw() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => { this.waiting = false; this.draw(); });
    }

    colours() {
      const style = getComputedStyle(document.documentElement);
      this.palette = new Map();
      this.colour = (role) => {
        if (!this.palette.has(role)) this.palette.set(role, style.getPropertyValue(`--${role}`).trim());
        return this.palette.get(role);
      };
      this.font = getComputedStyle(this.canvas).fontFamily;
    }

    x(time) { return this.left + ((time - this.from) / (this.to - this.from)) * (this.width - this.left); }
    time(x) { return this.from + ((x - this.left) / (this.width - this.left)) * (this.to - this.from); }

    draw() {
      if (!this.palette) this.colours();
      const pen = this.drawing;
      pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      pen.clearRect(0, 0, this.width, this.height);
      pen.textBaseline = "middle";
      this.ground(pen);
      pen.save();
      pen.beginPath();
      pen.rect(this.left, 0, this.width - this.left, this.height);
      pen.clip();
      this.ruler(pen);
      this.shown.forEach((lane, number) => this.lane(pen, lane, this.tops[number]));
      if (this.mark) this.band(pen);
      for (const [piece, width] of [[this.hover, 1], [this.chosen, 2]]) if (piece) this.frame(pen, piece, width);
      pen.restore();
      this.names(pen);
    }

    // What is not of the inference lies in the shade.
    ground(pen) {
      const [low, high] = this.window.look.map((time) => between(this.x(time), this.left, this.width));
      pen.fillStyle = this.colour("tint");
      pen.fillRect(this.left, RULER, low - this.left, this.height);
      pen.fillRect(high, RULER, this.width - high, this.height);
    }

    ruler(pen) {
      const span = this.to - this.from, zero = this.window.look[0];
      const wanted = (span * 90) / Math.max(this.width - this.left, 1);
      const power = 10 ** Math.floor(Math.log10(wanted));
      const step = Math.max([1, 2, 5, 10].find((each) => each * power >= wanted) * power, 1);
      const [unit, factor] = SCALES.find(([, each]) => step >= 0.01 * each) || SCALES[3];
      const digits = Math.max(0, -Math.floor(Math.log10(step / factor) + 1e-9));
      pen.font = `11px ${this.font}`;
      pen.textAlign = "left";
      for (let tick = Math.ceil((this.from - zero) / step); tick * step <= this.to - zero; tick++) {
        const x = Math.round(this.x(tick * step + zero)) + 0.5;
        pen.fillStyle = this.colour("grid");
        pen.fillRect(x - 0.5, 8, 1, this.height);
        pen.fillStyle = this.colour("muted");
        pen.fillText(`${((tick * step) / factor).toFixed(digits)} ${unit}`, x + 4, 15);
      }
      // Where in the window this is.
      pen.fillStyle = this.colour("grid");
      pen.fillRect(this.left, 0, this.width - this.left, 4);
      pen.fillStyle = this.colour("muted");
      const scale = (this.width - this.left) / this.window.span;
      pen.fillRect(this.left + this.from * scale, 0, Math.max(span * scale, 3), 4);
    }

    // Only what is seen is drawn, and of pieces within one pixel the first.
    lane(pen, lane, top) {
      const full = new Float64Array(lane.rows).fill(-1);
      const scale = (this.width - this.left) / (this.to - this.from);
      const labels = [];
      let role = null;
      for (let piece = lane.seen(this.from); piece < lane.size && lane.start[piece] <= this.to; piece++) {
        if (lane.end[piece] < this.from) continue;
        const row = lane.row(piece);
        const low = this.left + (lane.start[piece] - this.from) * scale;
        const high = this.left + (lane.end[piece] - this.from) * scale;
        const share = lane.p === undefined ? 1 : at(lane.p, piece) / 100;
        if (share === 1 && high <= full[row]) continue;
        const x = Math.max(low, this.left - 2), wide = Math.max(Math.min(high, this.width + 2) - x, 1);
        const its = at(lane.c, piece);
        if (its !== role) pen.fillStyle = this.colour((role = its));
        const y = top + row * ROW, tall = (ROW - 2) * share;
        pen.fillRect(x, y + (ROW - 2) - tall, wide > 4 ? wide - 1 : wide, tall);
        if (share === 1) full[row] = Math.max(Math.ceil(low + 1e-6), high - 0.5);
        if (wide > 34 && lane.p === undefined) labels.push([piece, x, y, wide, its]);
      }
      pen.font = `11px ${this.font}`;
      pen.textAlign = "left";
      for (const [piece, x, y, wide, its] of labels) {
        pen.fillStyle = this.colour(DARK.has(its) ? "paper" : LIGHT.has(its) ? "text" : "ink");
        const left = Math.max(x, this.left) + 4;
        const text = this.fitted(pen, lane.name(piece), x + wide - left - 4);
        if (text) pen.fillText(text, left, y + (ROW - 2) / 2 + 0.5);
      }
    }

    // Names differ at their ends: the middle gives way.
    fitted(pen, text, room) {
      const known = this.widths.get(text) || pen.measureText(text).width;
      this.widths.set(text, known);
      if (known <= room) return text;
      const most = Math.floor((0.92 * room * text.length) / known);
      if (most < 3) return "";
      const tail = Math.floor((most - 1) / 2);
      return `${text.slice(0, most - 1 - tail)}…${text.slice(text.length - tail)}`;
    }

    band(pen) {
      const low = this.x(this.mark[0]), high = Math.max(this.x(this.mark[1]), low + 2);
      pen.globalAlpha = 0.12;
      pen.fillStyle = this.colour("alarm");
      pen.fillRect(low, RULER - 4, high - low, this.height);
      pen.globalAlpha = 1;
      for (const x of [low, high]) pen.fillRect(x - 0.75, RULER - 8, 1.5, this.height);
    }

    frame(pen, [lane, piece], width) {
      const top = this.tops[this.shown.indexOf(lane)] + lane.row(piece) * ROW;
      const low = this.x(lane.start[piece]), high = Math.max(this.x(lane.end[piece]), low + 2);
      pen.strokeStyle = this.colour("text");
      pen.lineWidth = width;
      pen.strokeRect(low - 0.5, top - 1, high - low + 1, ROW);
      const queued = lane.queued(piece);
      if (queued > 0) { // from the return of its call to its start
        pen.fillStyle = this.colour("text");
        const from = this.x(lane.start[piece] - queued);
        pen.fillRect(from, top + ROW - 2, low - from, 2);
        pen.fillRect(from, top + ROW - 6, 2, 6);
      }
    }

    names(pen) {
      pen.font = `11px ${this.font}`;
      pen.fillStyle = this.colour("text");
      pen.textAlign = this.narrow ? "left" : "right";
      this.shown.forEach((lane, number) => {
        const y = this.tops[number] + (this.narrow ? -LABEL / 2 : (ROW - 2) / 2);
        const [x, room] = this.narrow ? [2, this.width] : [this.left - 8, this.left - 10];
        pen.fillText(this.fitted(pen, lane.label, room), x, y);
      });
    }

    // The piece at a place of the canvas; beside narrow ones, the nearest within three pixels.
    find(x, y) {
      if (x < this.left) return null;
      const number = this.tops.findIndex((top, each) => y >= top - 1 && y < top + this.shown[each].rows * ROW);
      if (number < 0) return null;
      const lane = this.shown[number], row = Math.floor((y - this.tops[number]) / ROW);
      const room = (3 * (this.to - this.from)) / (this.width - this.left), time = this.time(x);
      let best = null, nearest = room;
      for (let piece = lane.seen(time - room); piece < lane.size && lane.start[piece] <= time + room; piece++) {
        if (lane.row(piece) !== Math.max(row, 0) && lane.rows > 1) continue;
        const off = Math.max(lane.start[piece] - time, time - lane.end[piece], 0);
        if (off <= nearest) { best = piece; nearest = off; }
      }
      return best === null ? null : [lane, best];
    }

    // Everything that is known of a piece, as lines.
    told([lane, piece]) {
      const start = lane.start[piece], zero = this.window.look[0];
      const moment = BigInt(this.window.zero) + BigInt(Math.round(start));
      const micros = moment / 1000n, sign = micros < 0n ? "-" : "", size = micros < 0n ? -micros : micros;
      const lines = [
        `${duration(lane.end[piece] - start)}, ${lane.label}`,
        `starts at ${duration(start - zero)}, which is ${sign}${size / 1000000n}.${String(size % 1000000n).padStart(6, "0")}s in Nsight Systems`,
        lane.more(piece), ...this.waited(lane, piece),
      ];
      const beside = this.shown[this.shown.indexOf(lane) + 1];
      const layer = lane.isGpu && beside && beside.kind === "layer" && this.within(beside, start) !== null ? beside : null;
      if (layer) lines.push(`layer ${layer.name(this.within(layer, start))}`);
      return [lane.name(piece) || lane.label, ...lines.filter(Boolean)];
    }

    within(lane, time) {
      const piece = lane.seen(time + 0.5);
      return piece < lane.size && lane.start[piece] <= time ? piece : null;
    }

    // What a piece waited for, as far as the pieces around it tell.
    waited(lane, piece) {
      if (lane.p !== undefined) return [];
      const start = lane.start[piece], end = lane.end[piece], streams = this.shown.filter((each) => each.isGpu && each.p === undefined);
      if (lane.kind === "sync" || (lane.kind === "call" && at(lane.c, piece) === "sync")) {
        let last = null;
        for (const stream of streams) {
          for (let one = stream.seen(start); one < stream.size && stream.start[one] < end; one++) {
            if (stream.end[one] <= end && (!last || stream.end[one] > last[0].end[last[1]])) last = [stream, one];
          }
        }
        if (last && last[0].end[last[1]] > start) {
          return [`returned ${duration(end - last[0].end[last[1]])} after ${short(last[0].name(last[1]))} ended on ${last[0].label}`];
        }
      }
      if (lane.kind === "idle") {
        return this.shown.filter((each) => each.kind === "call" && each.p === undefined).map((calls) => {
          const times = new Map();
          for (let one = calls.seen(start); one < calls.size && calls.start[one] < end; one++) {
            const part = Math.min(calls.end[one], end) - Math.max(calls.start[one], start);
            if (part > 0) times.set(calls.name(one), (times.get(calls.name(one)) || 0) + part);
          }
          const most = [...times].sort((one, other) => other[1] - one[1])[0];
          const who = calls.label.split(":")[0];
          return most ? `meanwhile ${who} was in ${most[0]} for ${duration(most[1])}` : `${who} was between CUDA calls`;
        });
      }
      const queued = lane.queued(piece);
      if (queued === null) return [];
      if (queued < 0) return ["started before the call that launched it returned"];
      const launched = start - queued, before = piece ? lane.reach[piece - 1] : -Infinity;
      const waits = `launched ${duration(queued)} before it ran`;
      if (before > launched + 1000) return [`${waits}; it waited in its stream, behind ${short(lane.name(piece - 1))}`];
      const free = Number.isFinite(before) && launched > before ? `its stream had been free for ${duration(launched - before)}` : "";
      for (const other of streams) {
        if (other === lane) continue;
        const one = this.within(other, launched + queued / 2);
        if (one !== null && queued > 20000) return [`${waits}; meanwhile ${other.label} ran ${short(other.name(one))}`];
      }
      return [`${waits}${free ? `; ${free}: it waited for the host` : ""}`];
    }

    point(found, x, y) {
      const same = found && this.hover && found[0] === this.hover[0] && found[1] === this.hover[1];
      this.hover = found;
      this.tip.hidden = !found;
      if (!found) { this.redraw(); return; }
      if (!same) {
        const [title, ...lines] = this.told(found);
        const head = element("b");
        head.textContent = title;
        this.tip.replaceChildren(head, ...lines.map((line) => {
          const made = element("span");
          made.textContent = line;
          return made;
        }));
        this.redraw();
      }
      const box = this.canvas.parentElement;
      const left = between(x + 14, 0, Math.max(box.clientWidth - this.tip.offsetWidth, 0));
      const below = y + 18 + this.tip.offsetHeight < box.clientHeight + 60;
      this.tip.style.left = `${left}px`;
      this.tip.style.top = `${below ? y + 18 : y - this.tip.offsetHeight - 10}px`;
    }

    choose(found) {
      this.chosen = found;
      this.say(found ? this.told(found).join("; ") : "");
      this.redraw();
    }

    say(text) { this.said.textContent = text; }

    explain() {
      const seen = new Map();
      for (const lane of this.shown) {
        const kind = lane.isGpu || lane.kind === "copies" ? "" : `${lane.kind} `;
        for (const role of new Set(Array.isArray(lane.c) ? lane.c : [lane.c])) {
          const words = WORDS[`${kind}${role}`];
          if (words && !seen.has(words)) seen.set(words, role);
        }
      }
      this.legend.replaceChildren(...[...seen].map(([words, role]) => {
        const swatch = element("i");
        swatch.style.background = `var(--${role})`;
        const made = element("span", {}, swatch);
        made.append(words);
        return made;
      }));
    }

    step(by) {
      const lane = this.chosen ? this.chosen[0] : this.shown.find((each) => each.isGpu) || this.shown[0];
      const piece = this.chosen ? between(this.chosen[1] + by, 0, lane.size - 1) : Math.min(lane.seen(this.from), lane.size - 1);
      this.reveal([lane, piece]);
    }

    change(by) {
      const number = this.chosen ? between(this.shown.indexOf(this.chosen[0]) + by, 0, this.shown.length - 1) : 0;
      const lane = this.shown[number];
      const time = this.chosen ? this.chosen[0].start[this.chosen[1]] : this.from;
      this.reveal([lane, Math.min(lane.seen(time), lane.size - 1)]);
    }

    reveal(found) {
      const [lane, piece] = found, span = this.to - this.from;
      if (lane.end[piece] < this.from || lane.start[piece] > this.to) {
        const middle = (lane.start[piece] + lane.end[piece]) / 2;
        this.go(middle - span / 2, middle + span / 2);
      }
      this.choose(found);
    }

    enlarge(found) {
      const [lane, piece] = found, room = 0.5 * Math.max(lane.end[piece] - lane.start[piece], LEAST_NS);
      this.go(lane.start[piece] - room, lane.end[piece] + room);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const does = {
        ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2),
        ArrowUp: () => this.change(-1), ArrowDown: () => this.change(1),
        "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6), "0": () => this.fit(),
        n: () => this.step(1), p: () => this.step(-1),
        Enter: () => this.chosen && this.enlarge(this.chosen), Escape: () => { this.mark = null; this.choose(null); },
      }[event.key];
      if (!does) return;
      event.preventDefault();
      does();
    }

    listen() {
      const { canvas } = this;
      const place = (event) => {
        const box = canvas.getBoundingClientRect();
        return [event.clientX - box.left, event.clientY - box.top];
      };
      const share = (x) => between((x - this.left) / (this.width - this.left), 0, 1);
      canvas.addEventListener("keydown", (event) => this.key(event));
      canvas.addEventListener("wheel", (event) => {
        const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
        if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(between(event.deltaY, -100, 100) * 0.004), share(place(event)[0]));
        else if (Math.abs(sideways) > (event.shiftKey ? 0 : Math.abs(event.deltaY))) this.pan(sideways / (this.width - this.left));
        else return;
        event.preventDefault();
      }, { passive: false });
      canvas.addEventListener("pointerdown", (event) => {
        this.pointers.set(event.pointerId, place(event));
        this.moved = 0;
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        const [x, y] = place(event), before = this.pointers.get(event.pointerId);
        if (!before) { this.point(this.find(x, y), x, y); return; }
        if (this.pointers.size === 2) {
          const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
          const was = Math.abs(before[0] - other[0]), is = Math.abs(x - other[0]);
          if (was > 8 && is > 8) this.zoom(was / is, share((x + other[0]) / 2));
        } else {
          this.moved += Math.abs(x - before[0]);
          this.pan((before[0] - x) / (this.width - this.left));
          this.tip.hidden = true;
        }
        this.pointers.set(event.pointerId, [x, y]);
      });
      const up = (event) => {
        const was = this.pointers.delete(event.pointerId);
        if (was && event.type === "pointerup" && this.moved < 4) {
          const [x, y] = place(event), found = this.find(x, y);
          this.choose(found);
          this.point(found, x, y);
        }
      };
      canvas.addEventListener("pointerup", up);
      canvas.addEventListener("pointercancel", up);
      canvas.addEventListener("pointerleave", () => this.point(null));
      canvas.addEventListener("dblclick", (event) => {
        const found = this.find(...place(event));
        if (found) this.enlarge(found); else this.zoom(0.5, share(place(event)[0]));
      });
      this.choice.addEventListener("change", () => this.show(Number(this.choice.value)));
      const acts = { in: () => this.zoom(0.6), out: () => this.zoom(1 / 0.6), back: () => this.pan(-0.3), on: () => this.pan(0.3), fit: () => { this.mark = null; this.fit(); } };
      for (const button of this.home.querySelectorAll("button[data-does]")) {
        button.addEventListener("click", () => acts[button.dataset.does]());
      }
      new ResizeObserver(() => { if (this.shown && canvas.parentElement.clientWidth !== this.width) this.resize(); }).observe(canvas.parentElement);
    }
  }
  const LIGHT = new Set(["unknown"]);
  const DARK = new Set(["compute", "d2h", "other", "launch", "before", "alarm", "communication"]);

  // Each head of a table becomes a button that sorts; a field above it keeps the rows that hold what is written there.
  const sortable = (table) => {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.v);
    };
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = element("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = body.rows[0] && body.rows[0].cells[column].dataset.v !== undefined;
        const was = head.getAttribute("aria-sort");
        const down = was ? was === "ascending" : numeric;
        for (const each of heads) each.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const keyed = [...body.rows].map((row) => [value(row, column), row]);
        keyed.sort(([one], [other]) => (numeric ? one - other : one.localeCompare(other)) * (down ? -1 : 1));
        body.append(...keyed.map(([, row]) => row));
      });
    });
    const field = element("input", { type: "search", placeholder: "part of a name", autocomplete: "off", spellcheck: "false" });
    const status = element("span", { role: "status", class: "quiet" });
    const label = element("label", {}, "Filter ", field);
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let kept = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
        kept += !row.hidden;
      }
      status.textContent = wanted.length ? `${count(kept)} of ${count(body.rows.length)}` : "";
    });
    (table.closest(".scroll") || table).before(element("p", { class: "tools" }, label, " ", status));
  };

  const timelines = new Map();
  for (const home of document.querySelectorAll(".explore")) {
    home.hidden = false;
    const made = new Timeline(home);
    timelines.set(home.dataset.of, made);
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      made.open();
    }, { rootMargin: "400px" }).observe(home);
  }
  const recolour = () => { for (const each of timelines.values()) { each.palette = null; if (each.shown) each.redraw(); } };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-look]");
    if (!link || !timelines.has(link.dataset.of)) return;
    event.preventDefault();
    timelines.get(link.dataset.of).look(Number(link.dataset.look));
  });
  for (const table of document.querySelectorAll("table.sort")) sortable(table);
  const scrolls = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const over = target.scrollWidth > target.clientWidth + 1;
      if (over) { target.setAttribute("tabindex", "0"); target.setAttribute("role", "group"); target.setAttribute("aria-label", "wider than the page: scrolls sideways"); }
      else for (const name of ["tabindex", "role", "aria-label"]) target.removeAttribute(name);
    }
  });
  for (const each of document.querySelectorAll(".scroll, figure .wide")) scrolls.observe(each);
})();
