"use strict";
// What pages do beside maps and charts: forms, uploads, copying, tables, and saying that the server is gone.
(() => {
  const { adopt, plan, show, paint } = window.studioMaps;
  const $ = (id) => document.getElementById(id);

  function settle(root) {
    adopt(root);
    show(root);
    for (const cell of root.querySelectorAll("[data-level]")) paint(cell, Number(cell.dataset.level));
    window.studioCharts.settle(root);
  }
  document.addEventListener("DOMContentLoaded", () => {
    settle(document);
    mark();
    arrange();
    remember();
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    settle(event.target.isConnected ? event.target.parentElement || document : document);
    if (event.detail.xhr?.status >= 400 && event.target.id === "view") return; // nothing of it was swapped
    if (event.target.id === "view" && $("search")) $("search").value = ""; // its class is a choice now
    mark();
    if (event.target.id === "controls") arrange();
    if (["controls", "view"].includes(event.target.id)) remember();
    else changed();
    if (event.target.id === "view" && event.detail.requestConfig?.elt?.id === "controls") lookAt(event.target);
  });

  // A poll's last answer names its place from the document. Where what asked has gone meanwhile, as after a click on Cancel, its place is
  // not found, and the answer is not wanted any more.
  document.addEventListener("htmx:beforeRequest", ({ detail: { elt } }) => {
    elt.addEventListener("htmx:beforeOnLoad", (event) => {
      if (!elt.isConnected && event.detail.xhr.getResponseHeader("HX-Retarget")) event.preventDefault();
    }, { once: true });
  });

  // Where the controls stand below the result, the result would come out of sight.
  function lookAt(result) {
    if (matchMedia("(min-width: 64rem)").matches) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    result.tabIndex = -1;
    result.focus({ preventScroll: true });
    result.scrollIntoView({ block: "start", behavior: still ? "instant" : "smooth" });
  }
  const tall = new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--tall", `${target.offsetHeight}px`));
  function arrange() {
    const form = $("controls"), photos = $("photos"), chosen = photos?.querySelector(":checked")?.parentElement;
    tall.disconnect();
    if (form) tall.observe(form); // taller than the window, it scrolls with the page and stops at its own end
    if (chosen) photos.scrollTop = chosen.offsetTop - (photos.clientHeight - chosen.offsetHeight) / 2;
  }

  // ---- the class: one of the list, or what a search stands for, never both

  let checked = null, refused = null, before = "top1"; // the search that was looked up last, that was refused, and the choice before it
  const targets = () => [...($("controls")?.querySelectorAll("[name=target][type=radio]") || [])];
  const choose = (value) => { const box = targets().find((each) => each.value === value); if (box) box.checked = true; return box; };
  function mark() { // what the server says about a search, where it said something new
    const sought = $("sought"), own = sought?.querySelector("[name=target]");
    if (!sought) return;
    const listed = own && targets().find((each) => each !== own && each.value === own.value);
    if (listed) { listed.checked = true; own.closest("label").remove(); }
    if (!("mark" in sought.dataset)) return;
    const none = sought.querySelector(".refused");
    if (none) for (const each of targets()) { if (each.checked) before = each.value; each.checked = false; }
    else if (sought.dataset.mark) choose(sought.dataset.mark);
    delete sought.dataset.mark;
    $("search")?.toggleAttribute("aria-invalid", Boolean(none));
    if (none && refused === $("search")?.value) none.classList.add("wrong");
  }
  function unsearch() {
    if ($("search")) { $("search").value = ""; $("search").removeAttribute("aria-invalid"); }
    $("sought")?.querySelector(".refused")?.remove();
  }
  function refuse() { // the search stands for no class: said at the field, and the result is not touched
    refused = $("search")?.value;
    $("sought-note")?.classList.add("wrong");
    $("search")?.focus();
    changed();
  }
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.elt.id === "search") checked = $("search").value;
    if (event.detail.elt.id !== "controls" || !$("sought-note") || $("search").value !== checked) return;
    event.preventDefault();
    refuse();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt, xhr } = event.detail;
    if (elt.id !== "controls" || xhr.status !== 422 || !xhr.getResponseHeader("Content-Type")?.startsWith("text/html")) return;
    mark();
    refuse();
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "search" || event.target.value) return;
    unsearch();
    if (!targets().some((each) => each.checked)) choose(before);
  });
  document.addEventListener("change", (event) => { if (event.target.name === "target" && !event.target.closest("#sought")) unsearch(); });

  // ---- what is settled, and what was changed since

  let settled = null;
  const asked = () => {
    const form = $("controls");
    if (!form) return null;
    const data = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (typeof value === "string") data.append(name, value);
    return data.toString();
  };
  function remember() {
    settled = asked();
    changed();
  }
  function changed() {
    const note = $("changed");
    if (!note) return;
    if (refused !== null && refused === $("search")?.value) note.textContent = "Not asked: see “Class to explain”. The result shown is the one before.";
    else note.textContent = settled !== null && asked() !== settled ? "Changed: press the button to work it out." : "";
  }
  document.addEventListener("change", (event) => {
    const box = event.target, form = box.closest?.("#controls");
    if (!form) return;
    if (["photo", "model"].includes(box.name)) {
      for (const each of form.querySelectorAll("[name=target]")) if (each.type === "hidden") each.value = "top1";
      form.querySelector("[name=target][value=top1]")?.click();
      unsearch();
      $("sought")?.replaceChildren();
      send("classes");
    }
    if (["photo", "model", "baseline"].includes(box.name) || box.name.startsWith("baseline.")) send("preview", 150);
    if (box.name === "model") send("layers");
    if (box.name === "method" && box.selectedOptions) {
      const note = $("method-note");
      if (note) note.textContent = box.selectedOptions[0].dataset.summary || "";
    }
    changed();
  });
  document.addEventListener("input", (event) => { if (event.target.closest?.("#controls")) changed(); });
  // After the parameters of another choice have come.
  const send = (what, after = 0) => setTimeout(() => { if ($(what)) window.htmx.trigger(`#${what}`, `studio:${what}`); }, after);

  // ---- photographs from this machine

  async function upload(file) {
    const note = $("upload-note");
    if (!note) return;
    const say = (words) => { note.hidden = false; note.textContent = words; };
    say(`Reading ${file.name}…`);
    const body = new FormData();
    body.append("photo", file);
    let answer, response;
    try {
      response = await fetch("/api/photos", { method: "POST", body });
      answer = await response.json();
    } catch {
      say(response ? "The photograph was refused." : "The studio does not answer. Is it still running?");
      return;
    }
    if (!response.ok) { say(answer.error || "The photograph was refused."); return; }
    const photo = answer.photo || answer;
    note.hidden = true;
    const photos = $("photos");
    let box = photos.querySelector(`input[value="${CSS.escape(photo.id)}"]`);
    if (!box) {
      const label = document.createElement("label");
      box = document.createElement("input");
      Object.assign(box, { type: "radio", name: "photo", value: photo.id });
      box.setAttribute("aria-label", photo.title);
      const picture = document.createElement("img");
      Object.assign(picture, { src: `/photos/${photo.id}.png`, alt: "", width: 64, height: 64 });
      label.title = photo.title;
      label.append(box, picture);
      photos.prepend(label);
    }
    photos.scrollTop = 0;
    box.checked = true;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  }
  document.addEventListener("change", (event) => {
    if (event.target.id !== "upload" || !event.target.files.length) return;
    upload(event.target.files[0]);
    event.target.value = "";
  });
  const holdsFiles = (event) => $("photos") && [...(event.dataTransfer?.types || [])].includes("Files");
  document.addEventListener("dragover", (event) => { if (holdsFiles(event)) { event.preventDefault(); document.body.classList.add("dropping"); } });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files || [])].find((each) => each.type.startsWith("image/"));
    if (file && $("photos")) upload(file);
  });

  // ---- copy as code

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const code = button.closest(".block").querySelector("code");
    const before = "Copy";
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch { // without the permission the text is at least marked
      getSelection().selectAllChildren(code);
      button.textContent = "Marked: press Ctrl+C";
    }
    setTimeout(() => { button.textContent = before; }, 1800);
  });

  // ---- when the server is gone

  let gone = null;
  const say = (words) => {
    gone ||= Object.assign(document.createElement("p"), { className: "gone" });
    gone.setAttribute("role", "alert");
    gone.textContent = words;
    document.body.append(gone);
  };
  document.addEventListener("htmx:sendError", () => say("The studio does not answer. Is it still running?"));
  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) gone?.remove(); });
  document.addEventListener("htmx:beforeSwap", (event) => { // refusals as JSON are said, not put on the page
    const type = event.detail.xhr.getResponseHeader("Content-Type") || "";
    if (event.detail.xhr.status < 400 || type.startsWith("text/html")) return;
    event.detail.shouldSwap = false;
    let words = `The studio refused that (${event.detail.xhr.status}).`;
    try { words = JSON.parse(event.detail.xhr.responseText).error || words; } catch { /* no words came along */ }
    say(words);
  });
  window.addEventListener("resize", plan);
})();
