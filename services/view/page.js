// The page of so101 dataset view: one timeline for the videos and the plots. Nothing is loaded from anywhere.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const fps = data.fps;
  let episode, plots = [], videos = [], urls = [], captions = [];
  let frame = 0, time_s = 0, playing = false, before_ms = 0, lo = 0, hi = 1;

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const bytes = (text) => {
    const letters = atob(text), found = new Uint8Array(letters.length);
    for (let k = 0; k < letters.length; k += 1) found[k] = letters.charCodeAt(k);
    return found;
  };
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const column = (values, width, index) => Float32Array.from({ length: values.length / width }, (_, k) => values[k * width + index]);
  const times = (values, factor) => values.map((value) => value * factor);

  // ---- time ---------------------------------------------------------------------------------------

  const master = () => videos.find((video) => video.readyState > 0 && !video.ended && !video.error);

  const show = (wanted) => {
    frame = Math.max(0, Math.min(episode.frames - 1, wanted));
    if (playing && frame > hi) span(frame, frame + hi - lo);
    $("timeline").value = frame;
    $("timeline").setAttribute("aria-valuetext", `frame ${frame}, ${(frame / fps).toFixed(2)} seconds`);
    $("clock").textContent = `${(frame / fps).toFixed(2)} s, frame ${frame} of ${episode.frames - 1}`;
    plots.forEach((plot) => plot.point(frame));
    captions.forEach((caption) => caption());
  };

  const seek = (wanted) => {
    show(wanted);
    time_s = (frame + 0.5) / fps;  // the middle of a picture is never the one beside it
    videos.forEach((video) => { video.currentTime = time_s; });
  };

  const tick = (now_ms) => {
    if (!playing) return;
    const leader = master();
    time_s = leader ? leader.currentTime : time_s + (now_ms - before_ms) / 1000 * speed();
    before_ms = now_ms;
    for (const video of videos) {
      if (video === leader || video.ended || !leader) continue;
      // Pictures of the cameras stay within half a frame; what is farther off is put right at once.
      const off_s = video.currentTime - leader.currentTime;
      if (Math.abs(off_s) > 3 / fps && !video.seeking) video.currentTime = leader.currentTime;
      video.playbackRate = speed() * (1 - Math.max(-0.1, Math.min(0.1, 2 * off_s)));
    }
    show(Math.floor(time_s * fps + 1e-3));
    if (time_s * fps >= episode.frames - 0.5) pause(); else requestAnimationFrame(tick);
  };

  const speed = () => Number($("speed").value);

  const play = () => {
    if (frame >= episode.frames - 1) seek(0);
    playing = true;
    $("play").textContent = "Pause";
    before_ms = performance.now();
    videos.forEach((video) => {
      video.playbackRate = speed();
      video.play().catch(() => {});  // interrupted by a pause
    });
    requestAnimationFrame(tick);
  };

  const pause = () => {
    playing = false;
    $("play").textContent = "Play";
    videos.forEach((video) => video.pause());
    seek(frame);
  };

  const toggle = () => (playing ? pause() : play());
  const step = (frames) => { if (playing) pause(); seek(frame + frames); };

  // ---- zoom ---------------------------------------------------------------------------------------

  const span = (from, to) => {
    const length = Math.min(Math.max(to - from, 5), episode.frames - 1 || 1);
    lo = Math.max(0, Math.min(from, episode.frames - 1 - length));
    hi = lo + length;
    plots.forEach((plot) => { plot.fans = Number($("fans").value); plot.draw(lo, hi); });
    plots.forEach((plot) => plot.point(frame));
  };
  const zoom = (factor) => {
    const length = (hi - lo) * factor, middle = frame >= lo && frame <= hi ? frame : (lo + hi) / 2;
    span(middle - length * (middle - lo) / (hi - lo), middle + length * (hi - middle) / (hi - lo));
  };
  const whole = () => span(0, episode.frames - 1);
  const resize = () => { plots.forEach((plot) => plot.fit()); span(lo, hi); };

  const listen = (plot) => {
    const sheet = plot.sheet;
    let from = null, picked = null;
    const at = (event) => event.clientX - sheet.getBoundingClientRect().left;
    sheet.addEventListener("pointerdown", (event) => { from = at(event); sheet.setPointerCapture(event.pointerId); });
    sheet.addEventListener("pointermove", (event) => {
      if (from === null || Math.abs(at(event) - from) < 5) return;
      picked ??= sheet.appendChild(make("div", "picked"));
      picked.style.left = `${Math.min(from, at(event))}px`;
      picked.style.width = `${Math.abs(at(event) - from)}px`;
    });
    const done = (event) => {
      if (from === null) return;
      const ends = [plot.frameAt(from), plot.frameAt(at(event))].sort((a, b) => a - b);
      if (event.type === "pointerup") { if (picked) span(ends[0], ends[1]); else seek(Math.round(ends[1])); }
      picked?.remove();
      from = picked = null;
    };
    sheet.addEventListener("pointerup", done);
    sheet.addEventListener("pointercancel", done);
    sheet.addEventListener("dblclick", whole);
  };

  // ---- one episode --------------------------------------------------------------------------------

  const cameraView = (camera) => {
    const view = make("figure", "view"), caption = make("figcaption"), age = make("span", "soft");
    if (camera.video) {
      const url = URL.createObjectURL(new Blob([bytes($(camera.video).textContent)], { type: "video/mp4" }));
      urls.push(url);
      const video = make("video");
      Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: url });
      video.setAttribute("aria-label", `Pictures of the camera ${camera.name}`);
      video.addEventListener("error", () => {
        video.replaceWith(make("div", "gone", `This browser cannot play ${camera.codec}.`));
        videos = videos.filter((each) => each !== video);
      });
      view.append(video);
      videos.push(video);
    }
    if (camera.problem) view.append(make("div", "gone", camera.problem));
    caption.append(make("span", "", camera.name), age);
    view.append(caption);
    $("cameras").append(view);
    const timing = episode.timing.cameras[camera.name];
    if (!timing) return;
    const ages = times(floats(timing.age_s), 1000), repeated = new Set(timing.repeated);
    captions.push(() => {
      age.textContent = `${ages[frame].toFixed(0)} ms old${repeated.has(frame) ? ", repeated" : ""}`;
      age.className = repeated.has(frame) ? "late" : "soft";
    });
  };

  const jointPlots = () => {
    const width = data.joints.length, state = floats(episode.state), action = floats(episode.action);
    const bands = [{ colour: "person", runs: episode.person }, { colour: "soft", runs: episode.unlearned }];
    const policy = episode.policy, flat = policy ? floats(policy.chunks) : null;
    data.joints.forEach((joint, index) => {
      const chunks = policy && {
        every: policy.every, steps: policy.steps, count: flat.length / policy.steps / width,
        at: (k, i) => flat[(k * policy.steps + i) * width + index],
      };
      const lines = [
        { name: "state", colour: "ink", values: column(state, width, index), width: 1.3 },
        { name: "action", colour: "accent", values: column(action, width, index), width: 1.8 },
      ];
      plots.push(new Plot($("plots"), { title: joint.name.replaceAll("_", " "), unit: joint.unit, fps, lines, bands, chunks }));
    });
  };

  const timingPlot = () => {
    const colours = ["accent", "person", "chunk", "stop"], lines = [], marks = [];
    Object.entries(episode.timing.cameras).forEach(([name, camera], index) => {
      lines.push({ name, colour: colours[index % colours.length], values: times(floats(camera.age_s), 1000) });
      marks.push(...camera.repeated);
    });
    if (episode.timing.state_age_s) lines.push({ name: "state", colour: "ink", values: times(floats(episode.timing.state_age_s), 1000) });
    if (lines.length) plots.push(new Plot($("plots"), { title: "age at the row's time", unit: "ms, red: repeated", fps, lines, marks, fromZero: true }));
  };

  const errorPlot = () => {
    if (!episode.policy) return;
    const width = data.joints.length, error = floats(episode.policy.error), lines = [];
    data.joints.forEach((joint, index) => {
      lines.push({ name: joint.name.replaceAll("_", " "), colour: joint.unit === "%" ? "person" : "chunk",
        values: column(error, width, index), width: 1, alpha: joint.unit === "%" ? 1 : 0.4 });
    });
    const arm = data.joints.flatMap((joint, index) => (joint.unit === "%" ? [] : [index]));
    const mean = column(error, width, 0).map((_, k) => arm.reduce((sum, j) => sum + error[k * width + j], 0) / arm.length);
    lines.push({ name: "mean of the arm", colour: "chunk", values: mean, width: 2.5 });
    const plot = new Plot($("plots"), { title: "error by step of the chunk", unit: "deg; gripper %", fps, lines, still: true, fromZero: true });
    const last = mean.findLastIndex((value) => Number.isFinite(value));
    const worst = arm.reduce((a, b) => (error[last * width + b] > error[last * width + a] ? b : a), arm[0]);
    plot.readout.textContent = last < 0 ? "nothing to compare" : `arm's mean ${mean[0].toFixed(1)} at first, ${mean[last].toFixed(1)} at last; `
      + `then most ${lines[worst].name}, ${error[last * width + worst].toFixed(1)}`;
    plots.push(plot);
  };

  const findings = () => {
    const mine = data.findings.filter((finding) => finding.episode === null || finding.episode === episode.number);
    const list = $("findings").querySelector("ul");
    list.replaceChildren(...mine.map((finding) => {
      const item = make("li", finding.severity);
      item.append(make("span", "name", `${finding.code}: `), finding.message, make("span", "soft", `remedy: ${finding.remedy}`));
      return item;
    }));
    $("findings").hidden = mine.length === 0;
  };

  const load = (index, first) => {
    if (playing) pause();
    urls.forEach((url) => URL.revokeObjectURL(url));
    episode = data.episodes[index];
    plots = []; videos = []; urls = []; captions = [];
    $("cameras").replaceChildren();
    $("plots").replaceChildren();
    $("task").textContent = episode.task;
    $("label").textContent = episode.label ?? "not labelled";
    $("label").className = `chip ${episode.label ?? ""}`;
    $("facts").querySelector("dl").replaceChildren(...episode.facts.flatMap(([name, text]) => [make("dt", "", name), make("dd", "", text)]));
    findings();
    $("timeline").max = episode.frames - 1;
    episode.cameras.forEach(cameraView);
    jointPlots(); timingPlot(); errorPlot();
    plots.filter((plot) => !plot.still).forEach(listen);
    plots.forEach((plot) => plot.fit());
    document.querySelector(".key.chunk").hidden = document.querySelector(".fans").hidden = !episode.policy;
    document.querySelector(".key.person").hidden = episode.person.length === 0;
    document.querySelector(".key.unlearned").hidden = episode.unlearned.length === 0;
    whole();
    seek(first);
  };

  // ---- controls -----------------------------------------------------------------------------------

  const choose = (select, options, chosen) => {
    select.replaceChildren(...options.map(([value, text]) => Object.assign(make("option", "", text), { value })));
    select.value = chosen;
  };
  choose($("episode"), data.episodes.map((each, index) => [index, `${each.number}${each.label ? `, ${each.label}` : ""}`]), 0);
  choose($("speed"), [0.1, 0.25, 0.5, 1, 2, 4].map((value) => [value, `${value}×`]), 1);
  $("episode").addEventListener("change", () => load(Number($("episode").value), 0));
  $("speed").addEventListener("change", () => videos.forEach((video) => { video.playbackRate = speed(); }));
  $("timeline").addEventListener("input", () => { if (playing) pause(); seek(Number($("timeline").value)); });
  $("fans").addEventListener("input", () => span(lo, hi));
  const clicks = { play: toggle, back: () => step(-1), on: () => step(1), closer: () => zoom(0.5), farther: () => zoom(2), whole };
  Object.entries(clicks).forEach(([id, action]) => $(id).addEventListener("click", action));

  const change = (select, by) => {
    select.selectedIndex = Math.max(0, Math.min(select.options.length - 1, select.selectedIndex + by));
    select.dispatchEvent(new Event("change"));
  };
  const keys = {
    " ": toggle, ArrowLeft: (event) => step(event.shiftKey ? -Math.round(fps) : -1),
    ArrowRight: (event) => step(event.shiftKey ? Math.round(fps) : 1),
    Home: () => step(-episode.frames), End: () => step(episode.frames),
    "+": () => zoom(0.5), "-": () => zoom(2), 0: whole,
    "[": () => change($("speed"), -1), "]": () => change($("speed"), 1),
    PageUp: () => change($("episode"), -1), PageDown: () => change($("episode"), 1),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.tagName === "SELECT" || event.target.type === "number";
    const pressed = event.key === " " && event.target.tagName === "BUTTON";
    if (typing || pressed || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key](event);
  });
  window.addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => span(lo, hi));

  // page.html#3/120 opens episode 3 at frame 120.
  const [wanted, first] = location.hash.slice(1).split("/").map(Number);
  const index = Math.max(0, data.episodes.findIndex((each) => each.number === wanted));
  $("episode").value = index;
  load(index, first || 0);
})();
