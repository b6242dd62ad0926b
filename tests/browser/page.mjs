// Opens the page at / and the MCP App in a real Chromium, over a server whose leads are hostile, and holds both to what
// they promise. See tools/page.
//
// page.mjs SLUICE CHROMIUM PICTURES

import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { App } from "./app.mjs";
import { AXE, check, eventually, Server } from "./server.mjs";

const require = createRequire(`${process.env.SLUICE_SUITES}/`);
const { chromium } = require("playwright-core");
const [sluice, browserPath, pictures] = process.argv.slice(2);
const MAX_PICTURE_BYTES = 250_000;
const PHONE = { width: 360, height: 780 };
const DESKTOP = { width: 1280, height: 900 };
const HOSTILE = '<img src=x onerror="document.title=1"><script>alert(1)</script>';
const READ = "segredo-de-leitura-0002", FULL = "segredo-completo-0001";
const TOKENS = `ana:full:${FULL},painel:read:${READ}`;

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "sluice-page."));
const children = [];
const run = (args, env) => {
  const child = spawn(sluice, args, { cwd: folder, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  return child;
};

/** The sample project, and another whose visitors typed what would run if it could. */
async function source() {
  const sample = async (...more) => {
    const child = run(["sample", "--port", "0", ...more], {});
    let said = "";
    child.stdout.on("data", (data) => (said += data));
    await eventually("the sample project", () => /^SUPABASE_KEY=/m.test(said));
    const value = (name) => said.match(new RegExp(`^${name}=(.*)$`, "m"))[1];
    return { SUPABASE_URL: value("SUPABASE_URL"), SUPABASE_KEY: value("SUPABASE_KEY"), SLUICE_TIMEZONE: "America/Sao_Paulo" };
  };
  const [tidy, broken] = await Promise.all([sample(), sample("--broken", "3")]);
  const behind = new URL(broken.SUPABASE_URL);
  const typed = JSON.stringify(HOSTILE);
  const proxy = http.createServer((request, response) => {
    const headers = { ...request.headers, "accept-encoding": "identity" };
    const asked = http.request({ host: behind.hostname, port: behind.port, path: request.url, method: request.method, headers }, async (answer) => {
      let text = "";
      for await (const part of answer) text += part;
      text = text.replaceAll('"instagram"', typed).replaceAll(/"nome":"[^"]*"/g, `"nome":${typed}`);
      const { "content-length": _, "transfer-encoding": __, ...kept } = answer.headers;
      response.writeHead(answer.statusCode, { ...kept, "content-length": Buffer.byteLength(text) });
      response.end(request.method === "HEAD" ? "" : text);
    });
    request.pipe(asked);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return { tidy, hostile: { ...broken, SUPABASE_URL: `http://127.0.0.1:${proxy.address().port}` }, close: () => proxy.close() };
}

/** A page that must break no policy, ask nobody else, and show no script's work. */
async function opened(browser, url, options = {}, before = () => {}) {
  const context = await browser.newContext({ viewport: DESKTOP, locale: "en-US", timezoneId: "America/Sao_Paulo", ...options });
  const page = await context.newPage();
  page.wrongs = [];
  page.on("console", (message) => {
    // A refused or failed request is the browser's to tell, and the page's to show.
    if (message.type() === "error" && !/Failed to load resource/.test(message.text())) page.wrongs.push(message.text());
  });
  page.on("pageerror", (error) => page.wrongs.push(String(error)));
  page.on("dialog", (dialog) => page.wrongs.push(`a dialog: ${dialog.message()}`));
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin && !request.url().startsWith("data:")) page.wrongs.push(`${request.url()} was asked for`);
  });
  await before(page);
  await page.goto(url);
  return page;
}

async function signIn(page, token) {
  await page.getByLabel(/^Token$/).fill(token);
  await page.keyboard.press("Enter");
}

async function holds(page, where) {
  check(page.wrongs.length === 0, `${where}: ${page.wrongs.join("; ")}`);
  await accessible(page.mainFrame(), where);
}

async function accessible(frame, where) {
  await frame.evaluate(AXE);
  const found = await frame.evaluate(async () => (await globalThis.axe.run()).violations.map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.target.join(" ")).join(", ")}`));
  check(found.length === 0, `${where} is not accessible: ${found.join("; ")}`);
  check(await frame.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${where} is wider than its window`);
}

async function signingIn(browser, server) {
  const page = await opened(browser, server.url);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await holds(page, "the sign-in");
  for (const wrong of ["segredo-errado-000003", "ção"]) {
    await signIn(page, wrong);
    await page.getByRole("alert").filter({ hasText: "not one of the server's" }).waitFor();
  }
  await signIn(page, READ);
  await page.getByRole("heading", { name: "Parts" }).waitFor();
  check(!page.url().includes(READ) && (await page.context().cookies()).length === 0, "the token is where it should not be");
  await page.reload();
  await page.getByRole("heading", { name: "Parts" }).waitFor();
  return page;
}

async function emptyStore(page) {
  await page.getByText("sluice sync leads --wait").waitFor();
  await page.locator("#days").getByText("No lead arrived in this period.").waitFor();
}

async function showsWhatIsThere(page, server) {
  await server.call("sync_leads_from_supabase", { hours_ago: 8760, limit: 10_000 });
  await server.call("sync_chat_sessions_from_supabase", { hours_ago: 8760, limit: 10_000 });
  await page.getByRole("button", { name: "Refresh" }).click();
  const report = await server.call("lead_report", { period: "last_30_days", group_by: ["day"] });
  check(report.total.leads > 100, "the sample has leads");
  await page.locator("#arrivals strong").first().filter({ hasText: String(report.total.leads) }).waitFor();
  await page.getByText("sluice sync leads --wait").waitFor({ state: "detached" });
  await page.locator("#origins").getByText(HOSTILE).waitFor();
  // As JSON, where a quotation mark has a backslash.
  await page.locator("#letters").getByText(JSON.stringify(HOSTILE)).first().waitFor();
  check(await page.evaluate(() => document.images.length + document.querySelectorAll("script").length) === 1, "text of a lead became an element");
  const shown = await page.locator("#letters").innerText();
  check(/\*\*\*/.test(shown) && !/[a-z]@[a-z]/i.test(shown), `a contact is shown: ${shown}`);
  const columns = await page.locator("#days rect.whole").count();
  check(columns === 30, `${columns} of 30 days are drawn`);
  await holds(page, "the page");
}

async function byKeyboard(page) {
  // The keyboard goes on from where was clicked last.
  await page.getByRole("heading", { name: "sluice" }).click();
  const reached = [];
  for (let step = 0; step < 15; step += 1) {
    await page.keyboard.press("Tab");
    const summary = reached.includes("days-summary");
    reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.localName));
    if (!summary && reached.at(-1) === "days-summary") {
      await page.keyboard.press("Enter");
      await page.locator("#days-table table").waitFor();
    }
  }
  for (const wanted of ["period", "refresh", "sign-out", "days-summary", "Rows", "connect-claude"]) {
    check(reached.includes(wanted), `${wanted} is not reached by keyboard: ${reached}`);
  }
  await page.locator("#period").selectOption("last_7_days");
  await page.waitForFunction(() => document.querySelectorAll("#days rect.whole").length === 7);
  check(await page.locator("#days-table table").isVisible(), "a refresh closed what the reader had opened");
}

/** What can't be loaded is told, with the time of what is shown; and it comes back by itself. */
async function whenTheServerIsGone(page, server) {
  const before = await page.locator("#arrivals strong").first().innerText();
  await server.stop();
  await page.getByRole("button", { name: "Refresh" }).click();
  for (const section of ["#health", "#arrivals", "#lag"]) {
    await page.locator(`${section}.old`).getByText(/could not be loaded: the server can't be reached\. What is shown is of \d\d:\d\d:\d\d\./).waitFor();
  }
  check(await page.locator("#arrivals strong").first().innerText() === before, "the last good numbers are gone");
  await holds(page, "the page without its server");
  await server.start();
  await page.locator("#health.old").waitFor({ state: "detached", timeout: 60_000 });
}

/** A server that hears and does not answer: what is shown grows old, and says so. */
async function whenNothingIsAnswered(browser, server) {
  const page = await opened(browser, server.url, {}, (fresh) => fresh.clock.install());
  await signIn(page, READ);
  await page.getByRole("heading", { name: "Parts" }).waitFor();
  await page.route("**/mcp", () => {});
  await page.clock.runFor(70_000);
  await page.locator("#parts.old").getByText(/No answer since|no answer within/).waitFor();
  await page.context().close();
}

/** Counts that the server could not take anew are told with their age, in both languages. */
async function whenCountsAreOld(browser, server) {
  for (const [locale, age] of [["en-US", "counted 48 s ago"], ["pt-BR", "contagem de há 48 s"]]) {
    const page = await opened(browser, server.url, { locale });
    await page.locator("#tables td").first().waitFor();
    check(!(await page.locator("#tables").innerText()).includes(age.split(" ")[0]), "an age is told of counts of now");
    await page.route("**/mcp", async (route) => {
      const response = await route.fetch();
      const answer = await response.json();
      for (const row of answer.result?.structuredContent?.tables ?? []) row.counted_seconds_ago = 48;
      await route.fulfill({ response, json: answer });
    });
    await page.locator("#refresh").click();
    await page.locator("#tables").getByText(age).first().waitFor();
    await holds(page, `the page with old counts, ${locale}`);
    await page.context().close();
  }
}

async function signingOut(page) {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  check(await page.evaluate(() => sessionStorage.length) === 0, "the token is kept after signing out");
  check(await page.locator("section").count() === 0, "numbers are shown to whoever comes next");
}

/** A picture down to the end of a section, or of everything. */
async function picture(page, name, section) {
  const file = path.join(pictures, name);
  const end = section && (await page.locator(section).boundingBox());
  const clip = end && { x: 0, y: 0, width: page.viewportSize().width, height: end.y + end.height + 12 };
  await page.screenshot({ path: file, fullPage: true, animations: "disabled", clip: clip || undefined });
  check(fs.statSync(file).size < MAX_PICTURE_BYTES, `${file} has ${fs.statSync(file).size} bytes`);
}

/** Without tokens nobody is asked for one: in both languages, both lights, on a phone and a screen. */
async function withoutTokens(browser, server) {
  for (const [name, options, last] of [
    ["page-desktop.png", { locale: "en-US", colorScheme: "light", viewport: { width: 1080, height: 900 } }, "#tables"],
    ["page-phone.png", { locale: "pt-BR", colorScheme: "dark", viewport: PHONE }, "#origins"],
    [undefined, { locale: "pt-BR", colorScheme: "light", viewport: { width: 320, height: 600 } }],
    [undefined, { locale: "en-US", colorScheme: "dark" }],
  ]) {
    const page = await opened(browser, server.url, options);
    await page.locator("#parts h2").waitFor();
    await page.locator("#origins table").waitFor();
    const language = await page.evaluate(() => document.documentElement.lang);
    check(language.startsWith(options.locale.slice(0, 2)), `${options.locale} is shown as ${language}`);
    check(await page.locator("#sign-out, #token").count() === 0, "a token is asked for where there is none");
    await holds(page, `the page, ${JSON.stringify(options)}`);
    if (name) await picture(page, name, last);
    await page.context().close();
  }
}

async function main() {
  const project = await source();
  const server = new Server(run, { ...project.hostile, SLUICE_HTTP_TOKENS: TOKENS, SLUICE_DATA_DIR: path.join(folder, "hostile") }, FULL);
  const open = new Server(run, { ...project.tidy, SLUICE_DATA_DIR: path.join(folder, "tidy") });
  await Promise.all([server.start(), open.start()]);
  const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
  const step = async (name, work) => {
    const begun = Date.now();
    const result = await work();
    console.log(`${name}: ok, ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    return result;
  };
  try {
    const page = await step("signing in", () => signingIn(browser, server));
    await step("an empty store", () => emptyStore(page));
    await step("what is there, of hostile leads", () => showsWhatIsThere(page, server));
    await step("by keyboard", () => byKeyboard(page));
    await step("a server that does not answer", () => whenNothingIsAnswered(browser, server));
    await step("a server that is gone", () => whenTheServerIsGone(page, server));
    await step("signing out", () => signingOut(page));
    await open.call("sync_leads_from_supabase", { hours_ago: 8760, limit: 10_000 });
    await open.call("sync_chat_sessions_from_supabase", { hours_ago: 8760, limit: 10_000 });
    await step("without tokens", () => withoutTokens(browser, open));
    await step("old counts", () => whenCountsAreOld(browser, open));
    const app = new App(browser, accessible);
    await step("the App, of hostile leads", () => app.shows(server, HOSTILE));
    await step("the App where the client passes nothing on", () => app.alone(server));
    await step("the App in pictures", () => app.pictured(open, (page) => picture(page, "app-phone.png"), PHONE));
  } finally {
    await browser.close();
    project.close();
  }
}

try {
  await main();
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const child of children) child.kill();
  await Promise.all(children.map((child) => child.exitCode ?? child.signalCode ?? once(child, "exit")));
  fs.rmSync(folder, { recursive: true, force: true });
}
