// Everything works without this: it counts ages on, takes a new page now and then, and copies on a click.
(() => {
  document.documentElement.classList.add("js");

  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Over plain HTTP browsers have no clipboard for scripts, but copy what is selected.
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("refused");
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const said = button.textContent;
    const text = button.dataset.text ?? document.getElementById(button.dataset.copy).textContent;
    try {
      await copy(text);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = said; }, 2000);
    } catch {
      prompt("Copy it from here:", text);
    }
  });

  const span = (seconds) => {
    const parts = (large, unit, small, part) =>
      small ? `${large}\u202f${unit} ${small}\u202f${part}` : `${large}\u202f${unit}`;
    const s = Math.floor(seconds);
    if (s < 60) return `${s}\u202fs`;
    if (s < 3600) return parts(Math.floor(s / 60), "m", s % 60, "s");
    if (s < 86400) return parts(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "m");
    return parts(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
  };
  let came = performance.now();
  const tick = () => {
    const passed = (performance.now() - came) / 1000;
    if (passed < 1) return;
    for (const age of document.querySelectorAll("[data-age]")) age.textContent = span(+age.dataset.age + passed);
    for (const left of document.querySelectorAll("[data-left]")) {
      left.textContent = span(Math.max(0, left.dataset.left - passed));
    }
  };
  setInterval(tick, 1000);

  const gone = () => {
    if (document.documentElement.classList.contains("gone")) return;
    document.documentElement.classList.add("gone");
    document.title = "no answer – rsolv-exporter";
    for (const pill of document.querySelectorAll(".pill")) {
      pill.className = "pill bad";
      pill.textContent = "no answer";
    }
    const problem = document.createElement("section");
    problem.className = "problem bad";
    problem.role = "alert";
    problem.innerHTML = "<p><b>The exporter does not answer.</b> What is below is from before.</p>";
    document.querySelector("main").prepend(problem);
  };
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      // Whoever is about to copy something keeps it, unless all of it is old.
      if (!getSelection().isCollapsed && !document.documentElement.classList.contains("gone")) return;
      const fresh = new DOMParser().parseFromString(text, "text/html");
      for (const open of document.querySelectorAll("details[open][id]")) {
        fresh.getElementById(open.id)?.setAttribute("open", "");
      }
      for (const part of ["header", "main"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
      document.title = fresh.title;
      document.documentElement.classList.remove("gone");
      came = performance.now();
    } catch {
      gone();
    }
  };
  setInterval(refresh, 15000);
  document.addEventListener("visibilitychange", refresh);
})();
