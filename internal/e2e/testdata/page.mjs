// Looks at the operators' page in Chromium and prints what it saw, a line of JSON
// for each look: without a token, with a wrong one, with the token, when a lock
// was taken later, after a look for deadlocks, by a link with the token, when the
// token was replaced, when the daemon has ended. Whoever reads the lines makes
// that happen. In SHOTS it leaves pictures.
import { mkdirSync } from "node:fs";
import { join } from "node:path";

const { PLAYWRIGHT, CHROMIUM, PROFILE, BASE, TOKEN, NEXT, LOCK, LATER, DEADLOCK, SHOTS } = process.env;
const { chromium } = await import(PLAYWRIGHT);

const context = await chromium.launchPersistentContext(PROFILE, {
  executablePath: CHROMIUM, headless: true, timeout: 60000, viewport: { width: 1280, height: 800 },
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});
context.setDefaultTimeout(60000);
let gone = false;
const requests = [], refused = [], wrong = [];
context.on("request", (r) => requests.push({ method: r.method(), url: r.url(), type: r.resourceType() }));
context.on("response", (r) => { if (r.status() >= 400) refused.push(r.status()); });
context.on("dialog", (d) => { wrong.push("dialog: " + d.message()); void d.dismiss(); });
context.on("weberror", (e) => wrong.push("error: " + e.error()));
context.on("console", (m) => {
  // The console shows an answer of 401, by which the page knows to ask for a token,
  // one of 503 for a backend that is down, and none of a daemon that has ended.
  const known = gone ? /^Failed to load resource: (net::|.* (401|503) )/ : /^Failed to load resource: .* (401|503) /;
  if (["error", "warning"].includes(m.type()) && !known.test(m.text())) wrong.push(m.type() + ": " + m.text());
});

async function open(url) {
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

// look prints what an operator sees, and what is behind it.
async function look(name, page) {
  const seen = await page.evaluate(() => {
    const rows = (id) => [...document.getElementById(id).rows].map((tr) => [...tr.cells].map((td) => td.innerText));
    const shown = (query) => [...document.querySelectorAll(query)].filter((e) => e.checkVisibility());
    return {
      login: shown("#login").length === 1, state: document.getElementById("state").innerText, looked: document.getElementById("looked").innerText, unread: document.getElementById("unread").innerText,
      backends: rows("backends"), locks: rows("locks"), deadlocks: rows("deadlocks"), controls: shown("button, input, select, textarea, a, form").map((e) => e.id),
      // Elements that markup in a text would have made.
      foreign: document.querySelectorAll("main img, main script, main b, body script ~ *").length,
      kept: [location.href, document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join(" "),
      wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    };
  });
  if (SHOTS) {
    mkdirSync(SHOTS, { recursive: true });
    await page.screenshot({ path: join(SHOTS, name + ".png"), fullPage: true });
  }
  console.log(JSON.stringify({ name, ...seen }));
}

const cell = (page, table, text) => page.locator(`#${table} td`, { hasText: text }).first().waitFor();
// again waits until the page has asked once more by itself.
const again = (page, status) => page.waitForResponse((r) => new URL(r.url()).pathname === "/status" && r.status() === status);

try {
  const page = await open(BASE);
  await page.locator("#login").waitFor();
  await look("none", page);

  await page.fill("#token", TOKEN + "?");
  await page.click("#enter");
  await page.locator("#state", { hasText: "is not right" }).waitFor();
  await look("wrong", page);

  await page.fill("#token", TOKEN);
  await page.press("#token", "Enter");
  await cell(page, "locks", LOCK);
  await look("token", page);

  await cell(page, "locks", LATER);
  await look("later", page);

  await page.click("#look");
  await cell(page, "deadlocks", DEADLOCK);
  await again(page, 200);
  await look("deadlock", page);
  await page.setViewportSize({ width: 480, height: 800 });
  await look("narrow", page);
  await page.setViewportSize({ width: 1280, height: 800 });

  await page.check("#contended");
  await page.locator("#locks td", { hasText: LATER }).first().waitFor({ state: "detached" });
  await look("contended", page);

  const linked = await open(BASE + "#token=" + encodeURIComponent(TOKEN));
  await cell(linked, "locks", LOCK);
  await page.close();
  await look("link", linked);

  // The token is replaced, and the page forgets what it showed.
  await linked.locator("#login").waitFor();
  await look("replaced", linked);
  await linked.fill("#token", NEXT);
  await linked.click("#enter");
  await cell(linked, "locks", LOCK);
  gone = true;
  await look("next", linked);

  // The daemon ends, and the page says so.
  await linked.locator("#state", { hasText: "does not answer" }).waitFor();
  await look("gone", linked);

  console.log(JSON.stringify({ name: "all", requests, refused: [...new Set(refused)], wrong }));
} catch (e) {
  for (const page of context.pages().filter((p) => p.url().startsWith(BASE))) await look("failed", page);
  console.error(wrong.join("\n"));
  throw e;
} finally {
  await context.close();
}
