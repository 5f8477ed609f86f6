// Pictures, clicks and the stop button. All of it works over plain HTTP, so that a stop never waits for
// anything else of this page.
(() => {
  const toast = (text) => {
    const box = document.getElementById("toast");
    if (!box) return;
    box.textContent = text;
    box.classList.add("show");
    clearTimeout(box.timer);
    box.timer = setTimeout(() => box.classList.remove("show"), 5000);
  };

  const explain = (problem) => window.so101Words.reduce(
    (text, [call, here]) => text.replaceAll(call, here),
    problem.remedy ? `${problem.detail}: ${problem.remedy}` : problem.detail,
  );

  const send = async (path, body) => {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const value = await answer.json();
      if (!answer.ok) toast(explain(value));
      return answer.ok ? value : null;
    } catch (error) {
      toast("The service does not answer. If the arm moves, cut its power.");
      return null;
    }
  };

  window.so101 = {
    toast,
    explain,
    post: send,
    clicked: () => false,  // drive.js: whether a click means something else than a pickup
    start: async () => { if (await send("/v1/start")) toast("Going to the ready pose"); },
    stop: async () => { if (await send("/v1/stop", { level: "hold" })) toast("Stopped, holding"); },
    pick: async (camera, u, v) => {
      if (await send("/v1/pickups", { pixel: { camera, u, v } })) toast("Picking up");
    },
  };

  // Wherever the focus is: nothing on this page needs a space. Some browsers press a button that has the focus
  // when the key is let go: without the second of these, a stop would be followed by a start.
  const stops = (event) => event.key === "Escape" || event.key === " ";
  document.addEventListener("keydown", (event) => {
    if (!stops(event)) return;
    event.preventDefault();
    window.so101.stop();
  }, true);
  document.addEventListener("keyup", (event) => { if (stops(event)) event.preventDefault(); }, true);

  // One request at a time instead of an endless stream: browsers allow six connections to a host, and a few
  // open pages must not use up the one that a stop needs.
  const follow = (view) => {
    const image = view.querySelector("img");
    const next = (delay) => setTimeout(load, document.hidden ? 1000 : delay);
    const load = async () => {
      const began = performance.now();
      try {
        const answer = await fetch(`/v1/cameras/${view.dataset.camera}/frame.jpg`);
        if (!answer.ok) throw new Error(answer.status);
        const old = image.src;
        image.src = URL.createObjectURL(await answer.blob());
        if (old) URL.revokeObjectURL(old);
        view.classList.remove("stale");
        next(Math.max(5, 70 - (performance.now() - began)));
      } catch (error) {
        view.classList.add("stale");
        next(700);
      }
    };
    load();
    if (view.classList.contains("pick")) view.addEventListener("click", (event) => {
      const frame = view.getBoundingClientRect();
      const u = (event.clientX - frame.left) / frame.width * view.dataset.width - 0.5;
      const v = (event.clientY - frame.top) / frame.height * view.dataset.height - 0.5;
      const at = (value, size) => Math.min(Math.max(value, 0), size - 1);
      if (event.target.closest(".tool")) return;
      const cross = view.querySelector(".cross");
      cross.setAttribute("transform", `translate(${u} ${v})`);
      cross.style.display = "";
      const spot = [view.dataset.camera, at(u, view.dataset.width), at(v, view.dataset.height)];
      if (!window.so101.clicked(...spot)) window.so101.pick(...spot);
    });
  };

  const find = () => {
    const views = document.querySelectorAll(".view[data-camera]:not([data-live])");
    views.forEach((view) => { view.dataset.live = "1"; follow(view); });
    setTimeout(find, 500);
  };
  find();
})();
