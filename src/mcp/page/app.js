// The App: shown by an MCP client beside the answer of a tool, and told everything by that client, over postMessage.

const INITIALIZE_TIMEOUT_MS = 15_000;
const PROTOCOL = "2026-01-26";
const SECTION_NAMES = ["none", "health", "empty", "arrivals", "state", "days", "asked", "funnel", "origins"];
/** Colours, and nothing that could be fetched. */
const STYLE = /^--(color|border-radius)-[a-z0-9-]+$/;
const HARMLESS = /^[a-z0-9#(),.%\s/-]+$/i;

const told = new Map(["none", "status", "total", "day", "status_lead", "origem", "asked"].map((name) => [name, new Told()]));
const byServer = document.documentElement.dataset.language;
const waiting = new Map();
let words = new Words(byServer || navigator.language);
let lastId = 0;
let canAsk = false;
let view;
let given = {};

const post = (message) => window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
const notify = (method, params) => post({ method, params });
function ask(method, params) {
    const id = ++lastId;
    return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        post({ id, method, params });
    });
}

async function call(name, args) {
    return answerOf(await ask("tools/call", { name, arguments: args }));
}

/** Follows the client's look and language. */
function follow(context = {}) {
    const root = document.documentElement;
    if (context.theme === "light" || context.theme === "dark") root.dataset.theme = context.theme;
    for (const [name, value] of Object.entries(context.styles?.variables ?? {})) {
        if (STYLE.test(name) && HARMLESS.test(String(value)) && !/url/i.test(String(value))) root.style.setProperty(name, String(value));
    }
    if (context.locale || context.timeZone) {
        words = new Words(byServer || context.locale || words.language, words.zone ?? context.timeZone);
        if (view) open();
    }
    root.lang = words.language;
}

function open() {
    const again = h("button", { type: "button", id: "refresh", hidden: !canAsk }, words.say("refresh"));
    again.addEventListener("click", () => complete(true));
    const main = h("main", { class: "grid" });
    document.body.replaceChildren(h("header", { class: "app" }, h("h1", null, words.say("title")), h("div", { class: "controls" }, again)), main);
    view = new View(main, words, SECTION_NAMES, told);
}

/** The section of a report, by what it is grouped by. */
function placeOf(report) {
    const columns = columnsOf(report);
    if (columns.length !== 1) return columns.length === 0 ? "total" : "asked";
    if (columns[0] === "created_at") return "day";
    return ["status_lead", "origem"].includes(columns[0]) ? columns[0] : "asked";
}

/** Takes the answer that the App stands beside, whichever tool gave it. */
function take(data) {
    if (typeof data.healthy === "boolean") {
        told.get("status").take(data, { given: true });
    } else if (data.total) {
        words.zone = data.timezone;
        given = { from: data.from, to: data.to, timezone: data.timezone };
        for (const place of new Set(["total", placeOf(data)])) told.get(place).take(data, { given: true });
    }
    complete(false);
}

/** Asks for what the answer did not tell; all of it, where that is wished. */
async function complete(all) {
    if (!canAsk) {
        if (!told.get("day").data) told.get("none").take("no_more");
        return view.update();
    }
    const days = given.from ? given : { period: "last_30_days" };
    const asked = told.get("asked").data;
    const questions = [
        ["status", "get_pipeline_status", {}],
        ["day", "lead_report", { ...days, group_by: ["day"] }],
        ["status_lead", "lead_report", { ...days, group_by: ["status"] }],
        ["origem", "lead_report", { ...days, group_by: ["origem"] }],
        ...(asked ? [["asked", "lead_report", { ...days, group_by: columnsOf(asked).map((column) => (column === "created_at" ? "day" : column)) }]] : []),
    ];
    await Promise.all(questions.filter(([name]) => all || told.get(name).data === undefined).map(async ([name, tool, args]) => {
        const source = told.get(name);
        try {
            const answer = await call(tool, args);
            source.take(answer);
            if (name === "day" && (all || told.get("total").data === undefined)) told.get("total").take(answer);
            if (source.data.timezone) words.zone = source.data.timezone;
        } catch (error) {
            source.fail(error.message);
        }
        view.update();
    }));
}

const HEARD = {
    "ui/notifications/tool-input": () => {},
    "ui/notifications/tool-result": (result) => {
        told.get("none").data = undefined;
        try {
            take(answerOf(result));
        } catch (error) {
            told.get("none").fail(error.message);
            view.update();
        }
    },
    "ui/notifications/tool-cancelled": () => {
        told.get("none").take("call_cancelled");
        view.update();
    },
    "ui/notifications/host-context-changed": follow,
};

window.addEventListener("message", ({ source, data }) => {
    if (source !== window.parent || data?.jsonrpc !== "2.0") return;
    if (typeof data.method === "string") {
        const hear = Object.hasOwn(HEARD, data.method) ? HEARD[data.method] : undefined;
        if (hear) hear(data.params ?? {});
        if (data.id === undefined || data.id === null) return;
        if (["ping", "ui/resource-teardown"].includes(data.method)) return post({ id: data.id, result: {} });
        return post({ id: data.id, error: { code: -32601, message: "Method not found" } });
    }
    const { resolve, reject } = waiting.get(data.id) ?? {};
    waiting.delete(data.id);
    if (data.error) reject?.(new Error(data.error.message ?? "the client refused"));
    else resolve?.(data.result);
});

async function begin() {
    open();
    told.get("none").take("call_waits");
    view.update();
    const silence = setTimeout(() => {
        told.get("none").fail(words.say("no_host"));
        view.update();
    }, INITIALIZE_TIMEOUT_MS);
    const info = { name: "sluice", version: "1" };
    const answer = await ask("ui/initialize", { protocolVersion: PROTOCOL, appInfo: info, clientInfo: info, appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] } });
    clearTimeout(silence);
    told.get("none").error = undefined;
    canAsk = Boolean(answer?.hostCapabilities?.serverTools);
    follow(answer?.hostContext);
    open();
    notify("ui/notifications/initialized", {});
    new ResizeObserver(() => {
        const { width, height } = document.documentElement.getBoundingClientRect();
        notify("ui/notifications/size-changed", { width: Math.ceil(width), height: Math.ceil(height) });
    }).observe(document.documentElement);
}

begin();
