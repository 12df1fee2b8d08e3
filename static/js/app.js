// Comfort on top of pages that work without it. Everything is delegated, so that what htmx swaps in needs no wiring.
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const on = (type, handler, options) => document.addEventListener(type, handler, options);

function announce(text) {
  const region = $("#announce");
  if (!region) return;
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 50);
}

// Theme: light, dark, or the system's
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Kept for this page alone.
  }
  showTheme();
  $("#commands")?.close();
}
function showTheme() {
  const theme = document.documentElement.dataset.theme;
  for (const button of $$("[data-set-theme]")) button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
}

// Copy: data-copy="text", or data-copy="#id" for the text of another element
async function copy(button) {
  const wanted = button.dataset.copy;
  const text = wanted.startsWith("#") ? $(wanted).textContent.trim() : wanted;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    announce("Copying is not allowed here. Select the text and copy it by hand.");
    return;
  }
  button.dataset.done = "";
  announce("Copied");
  setTimeout(() => delete button.dataset.done, 2000);
}

// Menus are <details>: one open at a time, closed by Escape, a press elsewhere, or a choice
const openMenus = () => $$("details.menu[open]");
function closeMenus(except) {
  for (const menu of openMenus()) if (!menu.contains(except)) menu.open = false;
}
function walk(items, key) {
  const visible = items.filter((item) => !item.disabled && item.checkVisibility());
  const at = visible.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? visible.length - 1 : at - 1, Home: 0, End: visible.length - 1 }[key];
  if (to === undefined || !visible.length) return false;
  visible[(to + visible.length) % visible.length].focus();
  return true;
}

// The command list
const palette = $("#commands");
function openPalette() {
  if (!palette || palette.open) return;
  closeMenus();
  palette.showModal();
  const query = $("input[name=q]", palette);
  query.value = "";
  filterList(query);
}

// data-filter="#list": hides what does not match; a group goes with its last item
function filterList(input) {
  const list = $(input.dataset.filter);
  const words = input.value.trim().toLowerCase().split(/\s+/);
  const items = $$("[data-item]", list);
  for (const item of items) item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
  for (const group of $$("[data-group]", list)) group.hidden = !$("[data-item]:not([hidden])", group);
  const shown = items.filter((item) => !item.hidden).length;
  const none = $("[data-none]", list);
  if (none) none.hidden = shown > 0;
  if (input.value) announce(`${shown} of ${items.length} shown`);
}

// Chosen rows, chosen scopes
const rows = () => $$("[data-select]:not(:disabled)");
function countRows() {
  const all = rows();
  const chosen = all.filter((box) => box.checked).length;
  for (const place of $$("[data-selected-count]")) place.textContent = `${chosen} selected`;
  const head = $("[data-select-all]");
  if (!head) return;
  head.checked = chosen > 0 && chosen === all.length;
  head.indeterminate = chosen > 0 && chosen < all.length;
}
function countScopes(picker) {
  const place = picker && $("[data-count]", picker);
  if (place) place.textContent = `${$$("[data-item] :checked", picker).length} chosen`;
}
function applyPreset(button) {
  const picker = button.closest(".picker");
  const risks = button.dataset.preset.split(" ");
  for (const box of $$("input[data-risk]:not(:disabled)", picker)) box.checked = risks.includes(box.dataset.risk);
  picker.dispatchEvent(new Event("change", { bubbles: true }));
}

// Times: the same words as orgs/templatetags/ui.py, kept fresh
function relative(at, now) {
  const seconds = (now - at) / 1000;
  const ahead = seconds < 0;
  const step = ahead ? Math.round : Math.floor;
  const minutes = step(Math.abs(seconds) / 60);
  if (minutes < 1) return ahead ? "in a moment" : "just now";
  const hours = step(minutes / 60);
  const days = step(hours / 24);
  const span = minutes < 60 ? `${minutes}m` : hours < 24 ? `${hours}h` : days < 730 ? `${days}d` : `${Math.floor(days / 365)}y`;
  return ahead ? `in ${span}` : `${span} ago`;
}
function refreshTimes() {
  for (const time of $$("time[data-relative]")) {
    const words = relative(Date.parse(time.dateTime), Date.now());
    const text = time.dataset.relative === "left" ? words.replace(/^in /, "") : words;
    if (time.textContent !== text) time.textContent = text;
  }
}

on("click", (event) => {
  const target = event.target;
  closeMenus(target);
  const button = target.closest("[data-copy], [data-set-theme], [data-preset], [data-dismiss], [data-dialog], [data-commands], [aria-disabled=true]");
  const choice = target.closest(".menu-list :is(a, button):not([data-set-theme], [data-copy])");
  if (choice && (choice.form?.checkValidity() ?? true)) closeMenus();
  if (target instanceof HTMLDialogElement) target.close();
  if (!button) return;
  const { copy: text, setTheme: theme, preset, dismiss, dialog, commands } = button.dataset;
  if (button.getAttribute("aria-disabled") === "true") event.preventDefault();
  else if (text !== undefined) copy(button);
  else if (theme) setTheme(theme);
  else if (preset) applyPreset(button);
  else if (dismiss !== undefined) button.closest(".note").remove();
  else if (commands !== undefined) openPalette();
  else if (dialog && $(dialog)) {
    event.preventDefault();
    $(dialog).showModal();
  }
});

on("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
  } else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && !$("dialog[open]")) {
    event.preventDefault();
    $("#search")?.focus();
  } else if (event.key === "Escape" && openMenus().length) {
    const summary = $("summary", openMenus().at(-1));
    closeMenus();
    summary.focus();
  } else {
    const menu = event.target.closest("details.menu[open]");
    const inPalette = palette?.open && palette.contains(event.target);
    const items = inPalette ? $$(".palette-list [data-item]", palette) : menu && !typing ? $$(".menu-list :is(a, button)", menu) : [];
    if (!(inPalette && typing && ["Home", "End"].includes(event.key)) && walk(items, event.key)) event.preventDefault();
  }
});

on("input", (event) => {
  if (event.target.matches("[data-filter]")) filterList(event.target);
});

on("change", (event) => {
  const box = event.target;
  if (box.matches("[data-select-all]")) for (const row of rows()) row.checked = box.checked;
  if (box.matches("[data-select], [data-select-all]")) countRows();
  if (box.matches("[data-autosubmit]") && !steppedThrough(box)) box.form.requestSubmit();
  countScopes(box.closest(".picker"));
});

// A closed list changes with every arrow and letter: it is sent once Enter says so, or the focus goes on
let stepped = {}, unsent = null;
on("keydown", (event) => {
  const list = event.target;
  if (!list.matches?.("select[data-autosubmit]")) return;
  const decides = event.key === "Enter" || event.key === " " || event.altKey;
  stepped = decides ? {} : { list, at: event.timeStamp };
  if (unsent !== list) return;
  if (event.key === "Escape") {
    unsent = null;
    list.form.reset();
  }
  if (event.key !== "Enter") return;
  event.preventDefault();
  send(list);
}, true);
on("focusout", (event) => {
  if (unsent && event.target === unsent) send(unsent);
});

// A form is sent once: a second press while the first is on its way does nothing
on("submit", (event) => {
  const button = event.submitter;
  if (event.target.method === "dialog" || !button?.matches(".btn")) return;
  if (button.getAttribute("aria-busy") === "true") event.preventDefault();
  else if (!event.defaultPrevented && event.target.dataset.download === undefined) button.setAttribute("aria-busy", "true");
});
window.addEventListener("pageshow", notBusy);

// The secret is shown once: leaving before it is stored asks first
window.addEventListener("beforeunload", (event) => {
  const stored = $("[data-stored]");
  if (stored && !stored.checked) event.preventDefault();
});

function steppedThrough(list) {
  const isIt = stepped.list === list && performance.now() - stepped.at < 300;
  unsent = isIt ? list : null;
  return isIt;
}
function send(list) {
  unsent = null;
  if (list.isConnected) list.form.requestSubmit();
}
function notBusy() {
  for (const button of $$("[aria-busy=true].btn")) button.removeAttribute("aria-busy");
}
function failed(text) {
  notBusy();
  const note = document.createElement("div");
  note.className = "note bad";
  note.textContent = text;
  $("#messages")?.replaceChildren(note);
}

// A choice in a menu closes it, and the swap replaces it: the keyboard goes on at the menu's new button
let returnTo = "";
// What asks by the clock says so: the session does not count it as use
on("htmx:configRequest", ({ detail: { elt, headers, triggeringEvent } }) => {
  if (!triggeringEvent && elt.matches("[hx-trigger^=every]")) headers["Keystead-Poll"] = "1";
});
on("htmx:beforeRequest", (event) => {
  // What asks by the clock waits while nobody looks, or somebody has a menu of it open
  if (event.target.matches("[data-poll]") && (document.hidden || $("details.menu[open]", event.target))) return event.preventDefault();
  returnTo = event.target.closest("details.menu")?.querySelector("summary").id ?? event.target.id;
});
on("htmx:afterSettle", (event) => {
  if (returnTo && document.activeElement === document.body) document.getElementById(returnTo)?.focus({ preventScroll: true });
  notBusy();
  refreshTimes();
  countRows();
  const said = event.detail.elt?.dataset?.announce;
  if (said) announce(said);
});
// What was ticked while an answer was on its way stays ticked in the part that the answer replaces.
on("htmx:oobBeforeSwap", ({ detail: { target, fragment } }) => {
  for (const box of target.querySelectorAll("input[type=checkbox]")) {
    const fresh = fragment.querySelector(`input[name="${CSS.escape(box.name)}"][value="${CSS.escape(box.value)}"]`);
    if (fresh && !fresh.disabled) fresh.checked = box.checked;
  }
});
on("htmx:responseError", () => failed("That did not work. Reload the page and try again."));
on("htmx:sendError", () => failed("The portal can't be reached. Check the connection and try again."));

showTheme();
countRows();
$$(".picker").forEach(countScopes);
refreshTimes();
setInterval(refreshTimes, 20_000);
