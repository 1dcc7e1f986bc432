"use strict";
// Everything that comes from locks and owners is written as text, never as markup.
const byId = (id) => document.getElementById(id);
const every = 2000;
const pageSize = 100;
let token = "", pages = 1, timer = 0, serial = 0, current = "";

// The token may stand behind the # of the address, which browsers send to nobody.
const fragment = new URLSearchParams(location.hash.slice(1)).get("token");
if (fragment) {
  token = fragment;
  history.replaceState(null, "", location.pathname);
}

class Denied extends Error {}

async function ask(path) {
  const headers = new Headers(token ? { Authorization: "Bearer " + token } : {});
  const r = await fetch(path, { headers, cache: "no-store", credentials: "omit" }).catch(() => { throw new Error("the sidecar does not answer"); });
  if (r.status === 401) throw new Denied(token ? "the token is not right" : "a token is needed");
  if (!r.ok) throw new Error(reason(await r.text()) || r.status + " " + r.statusText);
  return r.json();
}

// reason is what the API says of a failure, with the backend if it is one's.
function reason(text) {
  try {
    const { message, details } = JSON.parse(text);
    const backend = (details ?? []).map((d) => d.metadata?.backend).find(Boolean);
    return (backend ? backend + ": " : "") + message;
  } catch {
    return text.slice(0, 200);
  }
}

// admit shows the page, or asks for the token and forgets what was shown.
function admit(may) {
  const asks = byId("login").hidden && !may;
  byId("login").hidden = may;
  byId("main").hidden = !may;
  if (asks) byId("token").focus();
  if (may) {
    byId("token").value = "";
    return;
  }
  current = "";
  for (const id of ["backends", "deadlocks", "locks"]) fill(id, []);
  for (const id of ["build", "looked", "unread"]) byId(id).textContent = "";
}

function fill(id, rows) {
  const body = byId(id);
  body.replaceChildren(...rows.map((cells) => {
    const tr = document.createElement("tr");
    for (const cell of cells) {
      const td = document.createElement("td");
      td.textContent = cell.text ?? cell;
      if (cell.bad) td.className = "bad";
      tr.append(td);
    }
    return tr;
  }));
}

const firstPriority = 1048576; // what an operator's "first" gives, and a drain has
const mode = (shared) => (shared ? "shared" : "exclusive");
const pairs = (m) => Object.entries(m ?? {}).map(([k, v]) => k + "=" + v).join("\n");
const since = (t) => (t ? Math.max(0, Math.round((Date.now() - Date.parse(t)) / 1000)) + " s" : "");
const seconds = (d) => (d ? (Math.round(parseFloat(d) * 10) / 10) + " s" : "");

function showStatus(s) {
  byId("build").textContent = [s.build?.version, (s.leases_held ?? 0) + " leases held", (s.waiters ?? 0) + " waiting", s.draining ? "draining" : ""].filter(Boolean).join(", ");
  fill("backends", (s.backends ?? []).map((b) => [b.name, b.driver, { text: b.serving ? "yes" : "no", bad: !b.serving }, { text: b.breaker ?? "", bad: b.breaker === "open" }, b.reason ?? ""]));
  const search = s.deadlock_search ?? {};
  byId("looked").textContent = (search.time ? "looked at " + new Date(search.time).toLocaleTimeString() + ", " + (search.locks ?? 0) + " contended locks" : "nobody has looked yet") +
    (search.truncated ? ", and there may be more" : "") + ((search.failed ?? []).length ? ", without " + search.failed.join(", ") : "");
  fill("deadlocks", (s.deadlocks ?? []).flatMap((d) => d.waits.map((w, i) => [
    d.id, { text: w.owner_id + (i === (d.victim ?? 0) ? " (victim)" : ""), bad: true }, w.waits_for, w.lock_id, w.fencing_token === "0" ? "waits too" : w.fencing_token, w.backend ?? "",
  ])));
}

function lockRows(l) {
  const waiters = (l.waiters ?? []).map((w) => w.position + ". " + w.owner_id + " (" + mode(w.shared) + ", " + (w.priority === firstPriority ? "before all others" : "priority " + (w.priority ?? 0)) + ", ticket " + w.ticket + ")").join("\n");
  const holders = (l.holders ?? []).length ? l.holders : [{ owner_id: "-", fencing_token: l.fencing_token }];
  return holders.map((h, i) => [
    l.lock_id, { text: h.owner_id + (h.revoked ? " (revoked)" : ""), bad: h.revoked }, h.fencing_token, h.ttl ? mode(h.shared) : "-", since(h.held_since), seconds(h.remaining), pairs(h.metadata), i === 0 ? waiters : "", l.backend ?? "",
  ]);
}

// locks reads as many as are to be shown; a page of the API may have fewer, and is
// of one backend. What was read stands when another one cannot be read.
async function locks() {
  const query = new URLSearchParams({ page_size: pageSize });
  if (byId("prefix").value) query.set("prefix", byId("prefix").value);
  if (byId("contended").checked) query.set("contended", "true");
  const all = [], failed = [];
  const unread = (why) => (why.length ? why.join(", ") + " cannot be read" : undefined);
  try {
    for (let n = 0; n < 20 * pages && all.length < pageSize * pages; n++) {
      const page = await ask("/locks?" + query);
      all.push(...(page.locks ?? []));
      failed.push(...(page.failed ?? []));
      if (!page.next_page_token) return { all, unread: unread(failed) };
      query.set("page_token", page.next_page_token);
    }
    return { all, more: true, unread: unread(failed) };
  } catch (e) {
    if (e instanceof Denied) throw e;
    return { all, unread: (all.length ? "the rest" : "this") + " cannot be read: " + e.message };
  }
}

async function refresh(look) {
  clearTimeout(timer);
  const mine = ++serial;
  try {
    const [status, read] = [await ask("/status" + (look ? "?find_deadlocks=true" : "")), await locks()];
    if (mine !== serial) return; // a later one is under way
    admit(true);
    showStatus(status);
    fill("locks", read.all.flatMap(lockRows));
    byId("unread").textContent = read.unread ?? "";
    byId("more").hidden = !read.more;
    current = new Date().toLocaleTimeString();
    byId("state").textContent = "as of " + current;
    byId("state").className = "";
  } catch (e) {
    if (mine !== serial) return;
    if (e instanceof Denied) admit(false);
    byId("state").textContent = e.message + (current ? ", this is as of " + current : "");
    byId("state").className = "bad";
  }
  timer = setTimeout(refresh, every, false);
}

function enter() {
  token = byId("token").value;
  refresh(false);
}

byId("look").addEventListener("click", () => refresh(true));
byId("more").addEventListener("click", () => { pages++; refresh(false); });
byId("contended").addEventListener("change", () => { pages = 1; refresh(false); });
byId("prefix").addEventListener("input", () => { pages = 1; refresh(false); });
byId("enter").addEventListener("click", enter);
byId("token").addEventListener("keydown", (e) => { if (e.key === "Enter") enter(); });
refresh(false);
