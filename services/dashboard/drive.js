// Driving by hand: buttons that are held, the ring in the picture, the gripper's slider, a gamepad; and the
// recorder's buttons. Intents go over one socket. The arm stops a quarter of a second after the last of a held
// button or stick, and at once when it is let go.
(() => {
  const PERIOD_MS = 80, DEAD = 0.15;
  const SLID_MS = 1000;  // so long after it was slid the slider waits for the gripper
  const FAST = { v: 0.12, turn: 60, jaws: 80 };
  const { post, toast, explain, stop } = window.so101;
  const drives = () => document.querySelector(".drive.teleop") !== null;

  let socket = null, unsent = null, stopped = false;
  const intend = (intent) => {
    if (stopped) return;
    const said = JSON.stringify(intent);
    if (socket && socket.readyState === 1) { socket.send(said); return; }
    unsent = said;  // until it is open only the newest counts: what was wanted meanwhile is past
    if (socket && socket.readyState === 0) return;
    socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/teleop/intents`);
    socket.onopen = () => socket.send(unsent);
    socket.onmessage = (event) => toast(explain(JSON.parse(event.data)));
  };

  // -- held buttons ---------------------------------------------------------------------------------------
  let held = null, moved = false;
  const release = () => {
    if (held) { held = null; intend({ kind: "halt" }); }
  };
  const still = () => {
    if (moved) { moved = false; intend({ kind: "halt" }); }
    release();
  };
  const hold = (intent) => {
    if (stopped) toast("You pressed STOP: end driving, then begin anew");
    held = { kind: "jog", ...intent };
    intend(held);
  };
  document.addEventListener("pointerdown", (event) => {
    const key = event.target.closest("[data-jog]");
    if (!key || event.button !== 0) return;
    event.preventDefault();
    key.setPointerCapture(event.pointerId);
    hold(JSON.parse(key.dataset.jog));
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) document.addEventListener(end, release);
  document.addEventListener("keydown", (event) => {
    const key = event.key === "Enter" && event.target.closest && event.target.closest("[data-jog]");
    if (key && !event.repeat) hold(JSON.parse(key.dataset.jog));
  });
  document.addEventListener("keyup", (event) => { if (event.key === "Enter") release(); });
  window.addEventListener("blur", release);
  document.addEventListener("visibilitychange", still);
  let slid = -Infinity;
  document.addEventListener("input", (event) => {
    if (!event.target.matches(".jaws")) return;
    slid = performance.now();
    intend({ kind: "gripper", gripper_pct: Number(event.target.value) });
  });

  // -- a gamepad ------------------------------------------------------------------------------------------
  const stick = (value) => {
    const size = Math.max(0, (Math.abs(value) - DEAD) / (1 - DEAD));
    return Math.sign(value) * size * size;
  };
  const gamepad = () => {
    const pad = [...(navigator.getGamepads ? navigator.getGamepads() : [])].find((one) => one && one.mapping === "standard");
    if (!pad) { still(); return; }
    const button = (index) => (pad.buttons[index] ? pad.buttons[index].value : 0);
    const [right, back, roll, down] = [0, 1, 2, 3].map((axis) => stick(pad.axes[axis] || 0));
    const jog = {
      vx_mps: -back * FAST.v, vy_mps: -right * FAST.v, vz_mps: -down * FAST.v, roll_dps: roll * FAST.turn,
      pitch_dps: (button(4) - button(5)) * FAST.turn, gripper_pps: (button(7) - button(6)) * FAST.jaws,
    };
    if (Object.values(jog).some((speed) => speed !== 0)) { moved = true; intend({ kind: "jog", ...jog }); }
    else still();
  };
  setInterval(() => {
    if (!drives()) { held = grabbed = null; moved = stopped = false; return; }
    if (document.hidden) still();  // the sticks of a hidden page stay as they were when it was hidden
    else if (held) intend(held); else gamepad();
  }, PERIOD_MS);

  // -- the ring in the picture ----------------------------------------------------------------------------
  const apply = (map, x, y) => {
    const [a, b, w] = map.map((row) => row[0] * x + row[1] * y + row[2]);
    return [a / w, b / w];
  };
  const maps = (view) => ({ toTable: JSON.parse(view.dataset.toTable), toPixel: JSON.parse(view.dataset.toPixel) });
  const pixel = (view, event) => {
    const frame = view.getBoundingClientRect();
    return [
      (event.clientX - frame.left) / frame.width * view.dataset.width - 0.5,
      (event.clientY - frame.top) / frame.height * view.dataset.height - 0.5,
    ];
  };
  const place = (ring, [u, v]) => ring.setAttribute("transform", `translate(${u} ${v})`);
  let tool = null, grabbed = null, sent = 0;
  const mine = (event) => grabbed !== null && event.pointerId === grabbed.pointer;  // not a second finger
  // Where the ring was taken counts, not where it is: the tool is above the table that the picture is mapped to.
  document.addEventListener("pointerdown", (event) => {
    const ring = event.target.closest(".tool");
    if (!ring || !tool || grabbed || event.button !== 0 || !drives()) return;
    event.preventDefault();
    const view = ring.closest(".view");
    ring.setPointerCapture(event.pointerId);
    const { toTable } = maps(view);
    grabbed = { view, ring, pointer: event.pointerId, event, at: pixel(view, event), tool, toTable };
  });
  document.addEventListener("pointermove", (event) => {
    if (!mine(event) || performance.now() - sent < PERIOD_MS) return;
    sent = performance.now();
    drag(event);
  });
  const drag = (event) => {
    const { view, ring, at, toTable } = grabbed;
    const scale = view.dataset.width / view.getBoundingClientRect().width;
    // By how far the pointer has gone: the page may move under it, when a fault is shown above the picture.
    const now = [
      at[0] + (event.clientX - grabbed.event.clientX) * scale,
      at[1] + (event.clientY - grabbed.event.clientY) * scale,
    ];
    const [from, to] = [apply(toTable, ...at), apply(toTable, ...now)];
    place(ring, now);
    intend({ kind: "goto", x_m: grabbed.tool[0] + to[0] - from[0], y_m: grabbed.tool[1] + to[1] - from[1] });
  };
  document.addEventListener("pointerup", (event) => {
    if (!mine(event)) return;
    drag(event);
    grabbed = null;
  });
  document.addEventListener("pointercancel", (event) => { if (mine(event)) grabbed = null; });

  // The ring and the slider follow the arm, while a person drives it.
  let telemetry = null;
  setInterval(() => {
    const on = drives() && !document.hidden;
    if (on && !telemetry) {
      telemetry = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/telemetry?hz=8`);
      telemetry.onmessage = (event) => show(JSON.parse(event.data));
      telemetry.onclose = () => {
        telemetry = tool = null;
        document.querySelectorAll(".tool").forEach((ring) => ring.removeAttribute("transform"));  // hides it
      };
    } else if (!on && telemetry) telemetry.close();
  }, 300);
  const show = (record) => {
    if (!record.tool_m || !record.position) return;
    tool = record.tool_m;
    document.querySelectorAll(".view[data-to-pixel]").forEach((view) => {
      if (!grabbed) place(view.querySelector(".tool"), apply(maps(view).toPixel, tool[0], tool[1]));
    });
    document.querySelectorAll(".jaws").forEach((jaws) => {
      if (performance.now() - slid > SLID_MS) jaws.value = record.goal[5];
    });
  };

  // -- recording ------------------------------------------------------------------------------------------
  let object = null;
  const mark = async (camera, u, v) => {
    try {
      const answer = await fetch(`/v1/cameras/${camera}/table?u=${u}&v=${v}`);
      const point = await answer.json();
      if (!answer.ok) { toast(explain(point)); return; }
      object = { x_m: point.x_m, y_m: point.y_m };
      toast(`The object lies at x ${point.x_m.toFixed(3)}, y ${point.y_m.toFixed(3)} m`);
    } catch (error) {
      toast("The service does not answer.");
    }
  };
  // A place is told once: the next object lies elsewhere.
  const begin = async (op) => {
    const told = object;
    object = null;
    if (!await post(`/v1/recording/${op}`, told ? { pickup: told } : {})) object = object || told;
  };
  Object.assign(window.so101, {
    record: (op, body) => post(`/v1/recording/${op}`, body || {}),
    next: () => begin("next"),
    redo: () => begin("redo"),
    // Whatever is still held, and however the stop goes: nothing is asked for until driving begins anew.
    stop: () => { stopped = true; return stop(); },
    clicked: (camera, u, v) => {
      if (document.querySelector(".capture.places")) { mark(camera, u, v); return true; }
      const driven = drives() || document.querySelector(".drive.leader") !== null;
      if (driven) toast("You are driving: end it before a pickup, or drag the ring");
      return driven;
    },
  });
})();
