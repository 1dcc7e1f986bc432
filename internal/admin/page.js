"use strict";
// Everything that comes from locks and owners is written as text, never as markup.
const byId = (id) => document.getElementById(id);
const every = 2000;
let token = "", pages = 1, timer = 0, serial = 0;

// The token may stand behind the # of the address, which browsers send to nobody.
const fragment = new URLSearchParams(location.hash.slice(1)).get("token");
if (fragment) {
  token = fragment;
  history.replaceState(null, "", location.pathname);
}

async function ask(path) {
  const headers = token ? { Authorization: "Bearer " + token } : {};
  const r = await fetch(path, { headers, cache: "no-store", credentials: "omit" });
  if (r.status === 401) {
    byId("login").hidden = false;
    throw new Error("a token is needed");
  }
  if (!r.ok) throw new Error(r.status + " " + (await r.text()).slice(0, 200));
  byId("login").hidden = true;
  return r.json();
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

const mode = (shared) => (shared ? "shared" : "exclusive");
const seconds = (d) => (d ? (Math.round(parseFloat(d) * 10) / 10) + " s" : "");

function showStatus(s) {
  byId("build").textContent = [s.build?.version, (s.leases_held ?? 0) + " leases held", (s.waiters ?? 0) + " waiting", s.draining ? "draining" : ""].filter(Boolean).join(", ");
  fill("backends", (s.backends ?? []).map((b) => [b.name, b.driver, { text: b.serving ? "yes" : "no", bad: !b.serving }, { text: b.breaker ?? "", bad: b.breaker === "open" }, b.reason ?? ""]));
  const search = s.deadlock_search ?? {};
  byId("looked").textContent = (search.time ? "looked at " + search.time + ", " + search.locks + " contended locks" : "nobody has looked yet") +
    (search.truncated ? ", and there may be more" : "") + ((search.failed ?? []).length ? ", without " + search.failed.join(", ") : "");
  fill("deadlocks", (s.deadlocks ?? []).flatMap((d) => d.waits.map((w, i) => [
    d.id, { text: w.owner_id + (i === (d.victim ?? 0) ? " *" : ""), bad: true }, w.waits_for, w.lock_id, w.fencing_token === "0" ? "waits too" : w.fencing_token, w.backend ?? "",
  ])));
}

function lockRows(l) {
  const waiters = (l.waiters ?? []).map((w) => w.position + ". " + w.owner_id + " (" + mode(w.shared) + ", priority " + (w.priority ?? 0) + ", ticket " + w.ticket + ")").join("; ");
  const holders = (l.holders ?? []).length ? l.holders : [{ owner_id: "-", fencing_token: l.fencing_token }];
  return holders.map((h, i) => [
    l.lock_id, { text: h.owner_id + (h.revoked ? " (revoked)" : ""), bad: h.revoked }, h.fencing_token, h.ttl ? mode(h.shared) : "-", seconds(h.remaining), i === 0 ? waiters : "", l.backend ?? "",
  ]);
}

async function locks() {
  const query = new URLSearchParams({ page_size: "100" });
  if (byId("prefix").value) query.set("prefix", byId("prefix").value);
  if (byId("contended").checked) query.set("contended", "true");
  const all = [];
  for (let n = 0; n < pages; n++) {
    const page = await ask("/locks?" + query);
    all.push(...(page.locks ?? []));
    byId("more").hidden = !page.next_page_token;
    if (!page.next_page_token) break;
    query.set("page_token", page.next_page_token);
  }
  return all;
}

async function refresh(look) {
  clearTimeout(timer);
  const mine = ++serial;
  try {
    const [status, all] = [await ask("/status" + (look ? "?find_deadlocks=true" : "")), await locks()];
    if (mine !== serial) return; // a later one is under way
    showStatus(status);
    fill("locks", all.flatMap(lockRows));
    byId("state").textContent = "as of " + new Date().toLocaleTimeString();
    byId("state").className = "";
  } catch (e) {
    if (mine !== serial) return;
    byId("state").textContent = String(e.message ?? e);
    byId("state").className = "bad";
  }
  timer = setTimeout(refresh, every, false);
}

byId("look").addEventListener("click", () => refresh(true));
byId("more").addEventListener("click", () => { pages++; refresh(false); });
byId("contended").addEventListener("change", () => { pages = 1; refresh(false); });
byId("prefix").addEventListener("input", () => { pages = 1; refresh(false); });
byId("enter").addEventListener("click", () => { token = byId("token").value; refresh(false); });
refresh(false);
