// The page: asks the server's own MCP endpoint, with the token that was typed into it.
//
// The token is in this tab's storage and goes out in one header, to one address. A cookie would go out by itself, and to
// whatever else this host serves on other ports.

const HERE = new URL(".", import.meta.url);
const KEPT = "sluice-token";
const TIMEOUT_MS = 20_000;
const STATUS_EVERY_MS = 15_000;
const REPORTS_EVERY_MS = 60_000;
const SECTION_NAMES = ["health", "empty", "arrivals", "state", "days", "funnel", "origins", "parts", "tables", "lag", "syncs", "letters", "alerts", "connect"];

/** The server wants a token, or another. */
class SignInNeeded extends Error {}

const told = new Map(["status", "day", "status_lead", "origem", "letters", "lag", "alerts", "connect"].map((name) => [name, new Told()]));
// What the days add up to.
told.set("total", told.get("day"));
const byServer = document.documentElement.dataset.language;
let words = new Words(byServer || navigator.language);
let token = sessionStorage.getItem(KEPT) ?? "";
let periodName = "last_30_days";
// Counts sign-ins and changes of the period: what was asked before one must not be shown after it.
let era = 0;
let view;
let lastId = 0;
const due = new Map();

async function request(path, options = {}) {
    const headers = { accept: "application/json", ...options.headers };
    if (token) headers.authorization = `Bearer ${token}`;
    let response, text;
    try {
        const signal = AbortSignal.timeout(TIMEOUT_MS);
        response = await fetch(new URL(path, HERE), { ...options, headers, signal, credentials: "omit", redirect: "error", cache: "no-store" });
        text = await response.text();
    } catch (error) {
        throw new Error(error.name === "TimeoutError" ? words.say("too_slow", TIMEOUT_MS / 1000) : words.say("unreachable"));
    }
    if (response.status === 401) throw new SignInNeeded();
    let answer;
    try {
        answer = JSON.parse(text);
    } catch {
        throw new Error(words.say("odd_answer", response.status));
    }
    const said = answer?.error?.message;
    if (said?.startsWith("there is no tool")) throw new NotOffered(said);
    if (said !== undefined) throw new Error(`${said}.`);
    if (!response.ok) throw new Error(words.say("odd_answer", response.status));
    return answer;
}

/** A tool's answer, by the stateless revision: one request, no session to lose. */
async function call(name, given) {
    const revision = "2026-07-28";
    const meta = {
        "io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientInfo": { name: "sluice-page", version: "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    };
    const answer = await request("mcp", {
        method: "POST",
        headers: { "content-type": "application/json", "mcp-protocol-version": revision, "mcp-method": "tools/call", "mcp-name": name },
        body: JSON.stringify({ jsonrpc: "2.0", id: ++lastId, method: "tools/call", params: { name, arguments: given, _meta: meta } }),
    });
    return answerOf(answer.result);
}

const report = (group) => () => call("lead_report", { period: periodName, group_by: [group] });
const QUESTIONS = [
    ["status", STATUS_EVERY_MS, () => call("get_pipeline_status", {})],
    ["letters", STATUS_EVERY_MS, () => call("list_dead_letters", { limit: 10, detailed: true })],
    ["alerts", STATUS_EVERY_MS, () => call("list_alerts", {})],
    ["lag", STATUS_EVERY_MS, () => request("lag")],
    ["day", REPORTS_EVERY_MS, report("day")],
    ["status_lead", REPORTS_EVERY_MS, report("status")],
    ["origem", REPORTS_EVERY_MS, report("origem")],
];

async function ask([name, every, question]) {
    const asked = era;
    const at = Date.now();
    due.set(name, Infinity);
    try {
        const data = await question();
        if (asked !== era) return;
        told.get(name).take(data);
        if (data.timezone && data.timezone !== words.zone) {
            words.zone = data.timezone;
            view?.shown.clear();
        }
    } catch (error) {
        if (asked !== era) return;
        if (error instanceof SignInNeeded) return signIn(token ? words.say("no_longer") : "");
        // What an operator leaves out is not missed here.
        if (error instanceof NotOffered) return void told.get(name).leave();
        told.get(name).fail(error.message);
    }
    due.set(name, at + every);
    view?.update();
    tellAge();
}

/** Asks what is due; what should have come long ago is no longer shown as new. */
function tick() {
    if (!view) return;
    const now = Date.now();
    for (const [name, every] of QUESTIONS) {
        const source = told.get(name);
        source.late = source.at !== undefined && now - source.at > 2 * every + TIMEOUT_MS;
    }
    view.update();
    tellAge();
    if (document.hidden) return;
    for (const question of QUESTIONS) if (now >= (due.get(question[0]) ?? 0)) ask(question);
}

function tellAge() {
    const place = document.getElementById("age");
    const moments = QUESTIONS.map(([name]) => told.get(name).at);
    if (!place) return;
    if (moments.every((at) => at === undefined)) return place.replaceChildren(words.say(QUESTIONS.some(([name]) => told.get(name).error) ? "unknown" : "loading"));
    const oldest = Math.min(...moments.filter((at) => at !== undefined));
    const text = words.say("as_of", words.moment(oldest));
    if (place.textContent !== text) place.replaceChildren(text);
    place.classList.toggle("bad", [...told.values()].some((source) => source.isOld || source.error));
    // Heard once, when it changes, and not at every refresh.
    const status = told.get("status");
    const verdict = status.data === undefined || status.isOld ? "" : status.data.healthy ? words.say("well") : words.say("unwell", status.data.problems?.length ?? 0);
    const spoken = document.getElementById("spoken");
    if (spoken.textContent !== verdict) spoken.textContent = verdict;
}

function forget() {
    era += 1;
    for (const source of told.values()) Object.assign(source, new Told());
    due.clear();
}

function header(...controls) {
    return h("header", null, h("h1", null, "sluice"), h("p", { id: "age" }), h("div", { class: "controls" }, controls));
}

function signIn(problem) {
    forget();
    sessionStorage.removeItem(KEPT);
    token = "";
    view = undefined;
    const input = h("input", { id: "token", type: "password", name: "token", autocomplete: "current-password", spellcheck: "false", required: true, "aria-describedby": "problem" });
    const said = h("p", { id: "problem", role: "alert", class: "bad" }, problem);
    const form = h("form", { class: "sign-in" }, h("h2", null, words.say("sign_in")), h("p", null, words.say("sign_in_about")),
        h("label", { for: "token" }, words.say("token")), input, said, h("button", { type: "submit" }, words.say("sign_in")));
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        const given = input.value.trim();
        let wrong = words.say("wrong_token");
        // Only such text can stand in a header.
        if (/^[\x21-\x7e]+$/.test(given)) {
            token = given;
            try {
                await request("lag");
                sessionStorage.setItem(KEPT, given);
                return start();
            } catch (error) {
                if (!(error instanceof SignInNeeded)) wrong = error.message;
            }
            token = "";
        }
        said.textContent = wrong;
        input.focus();
        input.select();
    });
    document.body.replaceChildren(header(), h("main", null, form));
    input.focus();
}

function start() {
    forget();
    const choice = h("select", { id: "period" }, ["last_7_days", "last_30_days", "last_90_days"].map((name) => h("option", { value: name, selected: name === periodName }, words.say(name))));
    choice.addEventListener("change", () => {
        periodName = choice.value;
        era += 1;
        for (const [name, every] of QUESTIONS) {
            if (every === REPORTS_EVERY_MS) Object.assign(told.get(name), new Told());
            due.set(name, 0);
        }
        tick();
    });
    const again = h("button", { type: "button", id: "refresh" }, words.say("refresh"));
    again.addEventListener("click", () => {
        for (const [name] of QUESTIONS) if (due.get(name) !== Infinity) due.set(name, 0);
        tick();
    });
    const out = token && h("button", { type: "button", id: "sign-out" }, words.say("sign_out"));
    if (out) out.addEventListener("click", () => signIn(""));
    const main = h("main", { class: "grid" });
    document.body.replaceChildren(header(h("label", { for: "period" }, words.say("period")), choice, again, out || undefined),
        h("p", { id: "spoken", class: "unseen", role: "status" }), main);
    told.get("connect").take({ url: new URL("mcp", HERE).href, token: token !== "" });
    view = new View(main, words, SECTION_NAMES, told);
    tick();
}

document.documentElement.lang = words.language;
document.addEventListener("visibilitychange", tick);
setInterval(tick, 1000);
start();
