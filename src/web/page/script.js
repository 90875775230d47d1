// Everything works without this: it only takes a new page now and then, and copies on a click.
(() => {
  document.documentElement.classList.add("js");
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  const refresh = async () => {
    if (document.hidden || !getSelection().isCollapsed) return;
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const open of document.querySelectorAll("details[open][id]")) {
        fresh.getElementById(open.id)?.setAttribute("open", "");
      }
      for (const part of ["header", "main"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
      document.title = fresh.title;
    } catch {
      const pill = document.querySelector(".pill");
      pill.className = "pill bad";
      pill.textContent = "no answer";
    }
  };
  setInterval(refresh, 15000);
})();
