// The view: what it was told, section by section. The App and the page differ only in who tells it, and in which sections
// they show.

/** Counts of this age are told with it: they are taken in the background, and not where a part does not answer. */
const OLD_COUNTS_S = 30;

/** What the view was told of one thing, and how old that is. `data` stays when a later question fails: it is shown as old. */
class Told {
    constructor() {
        this.data = undefined;
        this.at = undefined;
        this.error = undefined;
        this.late = false;
        // Told by the conversation the App stands in, which may be an old one.
        this.given = false;
    }

    take(data, { given = false } = {}) {
        Object.assign(this, { data, at: Date.now(), error: undefined, late: false, given });
    }

    leave() {
        Object.assign(this, new Told());
    }

    fail(error) {
        this.error = String(error);
    }

    get isOld() {
        return this.data !== undefined && (this.error !== undefined || this.late);
    }
}

class View {
    /** `sections`: names of those that are shown, in their order; `told`: a map of names to what was told. */
    constructor(root, words, sections, told) {
        Object.assign(this, { words, told });
        this.shown = new Map();
        this.opened = new Set();
        this.places = new Map();
        root.replaceChildren();
        for (const name of sections) {
            const place = h("section", { id: name, class: SECTIONS[name].class, hidden: true });
            this.places.set(name, place);
            root.append(place);
        }
        this.update();
    }

    /** Draws what has changed. A section that has not keeps its elements, and with them the reader's place. */
    update() {
        for (const [name, place] of this.places) {
            const section = SECTIONS[name];
            const sources = section.of.map((source) => this.told.get(source));
            const seen = JSON.stringify(sources.map(({ data, at, error, late, given }) =>
                [data, error, late, given, error === undefined && !late && !given ? 0 : at]));
            if (this.shown.get(name) === seen) continue;
            this.shown.set(name, seen);
            this.fill(name, place, section, sources);
        }
    }

    fill(name, place, section, sources) {
        for (const { id, open } of place.querySelectorAll("details")) this.opened[open ? "add" : "delete"](id);
        const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
        const known = sources.every((source) => source.data !== undefined);
        const notes = [...new Set(sources.map((source) => this.note(source)))].filter(Boolean).map((note) => h("p", { class: "note" }, note));
        if (notes.length === 0 && sources.some((source) => source.given)) notes.push(h("p", { class: "about" }, this.words.say("as_answered")));
        let body = [];
        try {
            body = known ? section.draw(this.words, ...sources.map((source) => source.data)) : [];
        } catch (error) {
            // A newer or older server's answer must not be shown by half.
            notes.push(h("p", { class: "note" }, this.words.say("failed", String(error))));
        }
        const heading = section.title && h("h2", null, section.title(this.words, ...sources.map((source) => source.data)));
        place.replaceChildren(...[heading, ...notes, ...[body].flat()].filter(Boolean));
        place.classList.toggle("old", sources.some((source) => source.isOld));
        place.hidden = body === undefined || (body.length === 0 && notes.length === 0);
        for (const details of place.querySelectorAll("details")) details.open = this.opened.has(details.id);
        if (focused) place.querySelector(`#${CSS.escape(focused)}`)?.focus();
    }

    note(source) {
        const { words } = this;
        if (source.error !== undefined) {
            return source.data === undefined ? words.say("failed", source.error) : words.say("failed_old", source.error, words.moment(source.at));
        }
        return source.late ? words.say("late", words.moment(source.at)) : undefined;
    }
}

/** The groups of a report under some columns, each with its values there, and all rarer ones together. */
function groupsOf(report, ...columns) {
    const groups = (report.groups ?? []).map((group) => {
        const values = columns.map((column) => String(group[column] ?? "(missing)"));
        return { values, key: values[0], leads: group.leads, qualified: group.qualified ?? 0 };
    });
    const others = report.others;
    return { groups, others: others ? { leads: others.leads, qualified: others.qualified ?? 0 } : undefined };
}

/** The columns that a report is grouped by, as far as its groups tell. */
function columnsOf(report) {
    const counted = new Set(["leads", "before", "difference", "qualified", "qualified_percent"]);
    const names = new Set((report.groups ?? []).flatMap((group) => Object.keys(group)));
    return [...names].filter((name) => !counted.has(name) && !name.endsWith("_percent"));
}

/** Every day from the first to the last, in bundles of some where there are too many to see. */
function daysOf(report) {
    const counts = new Map(groupsOf(report, "created_at").groups.map((group) => [group.key, group]));
    const days = [];
    for (let at = Date.parse(report.from); at <= Date.parse(report.to); at += 86_400_000) {
        const key = new Date(at).toISOString().slice(0, 10);
        days.push({ key, leads: counts.get(key)?.leads ?? 0, qualified: counts.get(key)?.qualified ?? 0 });
    }
    const size = Math.ceil(days.length / 92);
    const bundles = [];
    for (let at = 0; at < days.length; at += size) {
        const bundle = days.slice(at, at + size);
        const sum = (name) => bundle.reduce((total, day) => total + day[name], 0);
        bundles.push({ key: bundle[0].key, leads: sum("leads"), qualified: sum("qualified") });
    }
    return { days: bundles, size };
}

/** How many leads reached each stage: one counts where it is and in all before, one in no stage only in the first. */
function funnelOf(report) {
    const { groups, others } = groupsOf(report, "status_lead");
    const by = new Map(groups.map((group) => [group.key, group.leads]));
    const all = report.total.leads;
    const reached = STAGES.map((stage, at) => ({
        stage,
        leads: at === 0 ? all : STAGES.slice(at).reduce((sum, later) => sum + (by.get(later) ?? 0), 0),
    }));
    const besides = groups.filter((group) => !STAGES.includes(group.key)).map((group) => [group.key, group.leads]);
    if (others) besides.push(["others", others.leads]);
    return { all, reached, besides };
}

function period(words, report) {
    return report.from === report.to
        ? words.say("leads_of", words.day(report.from))
        : words.say("leads_in", words.day(report.from), words.day(report.to));
}

function lacking(words, report) {
    return report.behind?.length ? h("p", { class: "note", lang: "en" }, words.say("lacking", report.behind.join(" "))) : undefined;
}

function headOf(words, columns) {
    return columns.map((column) => words.say(column)).join(" · ");
}

function none(words) {
    return [h("p", null, words.say("none_in_period"))];
}

function tile(number, label, more, kind) {
    return h("div", { class: `tile ${kind ?? ""}` }, h("strong", null, number), h("span", null, label), more && h("small", null, more));
}

function barsOf(words, report, ...columns) {
    if (!report.total.leads) return none(words);
    const head = headOf(words, columns);
    const { groups, others } = groupsOf(report, ...columns);
    const row = (label, leads) => ({ label, value: leads, said: [words.number(leads), words.percent(leads, report.total.leads)] });
    const rows = groups.map((group) => row(group.values.map((value, at) => [at > 0 && " · ", foreign(words.value(value))]).flat().filter(Boolean), group.leads));
    if (others) rows.push(row(words.say("others"), others.leads));
    const hint = report.hint && h("p", { class: "about", lang: "en" }, foreign(report.hint));
    return [lacking(words, report), hint, bars(head, [head, words.say("leads"), words.say("share")], rows)];
}

const SECTIONS = {
    /** Whether anything is wrong, first of all. */
    health: {
        of: ["status"],
        class: "wide",
        draw(words, status) {
            const count = status.problems?.length ?? 0;
            const list = (key, texts) => texts?.length && h("div", null,
                h("h2", null, words.say(key)), h("ul", { lang: "en" }, texts.map((text) => h("li", null, foreign(text)))));
            const said = status.healthy ? words.say("well") : count === 1 ? words.say("unwell_1") : words.say("unwell", count);
            return [
                h("p", { class: status.healthy ? "verdict good" : "verdict bad" }, h("span", { class: "mark", "aria-hidden": "true" }, status.healthy ? "✓" : "!"),
                    h("b", null, said), h("span", { class: "when" }, words.say("as_of", words.moment(status.checked_at)))),
                list("problems", status.problems), list("warnings", status.warnings),
            ];
        },
    },
    empty: {
        of: ["status"],
        class: "wide",
        draw(words, status) {
            // What can't be asked, or is still to be applied, is not known to be empty.
            const isKnown = status.log.ok && status.sinks.every((sink) => sink.ok) && status.lag.every((lag) => lag.total === 0);
            if (!isKnown || status.tables.some((table) => table.store !== 0)) return [];
            return [h("p", { class: "note" }, words.say("empty"), " ", h("code", null, "sluice sync leads --wait"))];
        },
    },
    arrivals: {
        of: ["total"],
        class: "tiles",
        draw(words, report) {
            const { leads, difference, qualified } = report.total;
            const days = Math.round((Date.parse(report.to) - Date.parse(report.from)) / 86_400_000) + 1;
            const than = difference > 0 ? words.say("more", words.number(difference)) : difference < 0 ? words.say("fewer", words.number(-difference)) : words.say("same");
            return [
                tile(words.number(leads), period(words, report), difference === undefined ? undefined : words.say("before", than, days)),
                tile(words.percent(qualified, leads), words.say("qualified"), words.number(qualified)),
            ];
        },
    },
    state: {
        of: ["status"],
        class: "tiles",
        draw(words, status) {
            const lags = (status.lag ?? []).map((lag) => lag.total);
            const lag = lags.some((total) => typeof total !== "number") ? undefined : Math.max(0, ...lags);
            const letters = status.dead_letters;
            const lagSaid = lag === undefined ? words.say("unknown") : lag === 0 ? words.say("nothing_behind") : undefined;
            const lettersSaid = letters === undefined ? words.say("unknown") : letters === 0 ? words.say("letters_none") : words.say("letters_some");
            return [
                tile(words.number(lag), words.say("behind_sinks"), lagSaid, lag === 0 ? "" : "warn"),
                tile(words.number(letters), words.say("letters_open"), lettersSaid, letters === 0 ? "" : "warn"),
            ];
        },
    },
    days: {
        of: ["day"],
        class: "wide",
        title: (words) => words.say("days"),
        draw(words, report) {
            if (!report.total.leads) return none(words);
            const { days, size } = daysOf(report);
            const most = days.reduce((best, day) => (day.leads > best.leads ? day : best));
            const today = new Intl.DateTimeFormat("en-CA", { timeZone: report.timezone }).format(new Date());
            const about = words.say("days_about", words.number(report.total.leads), words.day(report.from), words.day(report.to), words.day(most.key), words.number(most.leads));
            const columns = days.map((day) => ({
                label: words.day(day.key),
                about: `${words.day(day.key)}: ${words.number(day.leads)}, ${words.say("qualified")} ${words.number(day.qualified)}`,
                whole: day.leads,
                part: day.qualified,
                open: day.key === today,
            }));
            const rows = days.map((day) => [words.day(day.key), words.number(day.leads), words.number(day.qualified)]);
            return [
                lacking(words, report),
                h("p", { class: "legend" }, h("span", { class: "key part" }), words.say("qualified"), h("span", { class: "key whole" }), words.say("not_qualified"),
                    size > 1 && h("span", null, words.say("days_each", size)),
                    columns.some((column) => column.open) && h("span", { class: "key open" }), columns.some((column) => column.open) && words.say("not_over")),
                drawn((width) => columnChart(width, columns, words, about)),
                h("details", { id: "days-table" }, h("summary", { id: "days-summary" }, words.say("as_table")),
                    table(words.say("days"), [words.say("day"), words.say("leads"), words.say("qualified")], rows)),
            ];
        },
    },
    funnel: {
        of: ["status_lead"],
        title: (words) => words.say("funnel"),
        draw(words, report) {
            if (!report.total.leads) return none(words);
            const { all, reached, besides } = funnelOf(report);
            const rows = reached.map(({ stage, leads }) => ({ label: words.say(stage), value: leads, said: [words.number(leads), words.percent(leads, all)] }));
            const named = besides.map(([key, leads], at) => [at > 0 && ", ", foreign(key === "others" ? words.say(key) : words.value(key)), ` ${words.number(leads)}`]);
            return [
                lacking(words, report),
                h("p", { class: "about" }, words.say("funnel_about")),
                bars(words.say("funnel"), [words.say("stage"), words.say("reached"), words.say("share")], rows),
                besides.length > 0 && h("p", { class: "about" }, words.say("besides", ""), ...named),
            ];
        },
    },
    origins: {
        of: ["origem"],
        title: (words) => words.say("origins"),
        draw: (words, report) => barsOf(words, report, "origem"),
    },
    /** What the App was asked for, where that is none of the others. */
    asked: {
        of: ["asked"],
        class: "wide",
        title: (words, report) => headOf(words, report ? columnsOf(report) : []),
        draw: (words, report) => barsOf(words, report, ...columnsOf(report)),
    },
    parts: {
        of: ["status"],
        class: "wide",
        title: (words) => words.say("parts"),
        draw(words, status) {
            const kept = (name) => (["postgres", "sqlite"].includes(name) ? "store" : "index");
            const parts = [["source", status.source], ["log", status.log], ...(status.sinks ?? []).map((sink) => [kept(sink.name), sink])];
            const running = new Set([...(status.drains ?? []), ...(status.drains_elsewhere ?? [])].filter((drain) => drain.state === "running").map((drain) => drain.sink));
            return h("ul", { class: "parts" }, parts.map(([role, part]) => {
                const pause = (status.paused ?? []).find((paused) => paused.sink === part.name);
                const doing = pause ? words.say("paused", pause.paused_by) : running.has(part.name) ? words.say("drains") : undefined;
                return h("li", { class: part.ok ? "good" : "bad" },
                    h("b", null, words.say(role), " · ", foreign(part.name)),
                    h("span", { class: "state" }, h("span", { class: "mark", "aria-hidden": "true" }, part.ok ? "✓" : "!"), words.say(part.ok ? "answers" : "no_answer"), doing && `, ${doing}`),
                    h("small", null, words.say(`${role}_is`)),
                    h("small", { lang: "en" }, foreign(part.error ?? part.detail)));
            }));
        },
    },
    tables: {
        of: ["status"],
        class: "wide",
        title: (words) => words.say("tables"),
        draw(words, status) {
            const rows = (status.tables ?? []).map((row) => {
                const last = row.reconciled;
                const reconciled = last === undefined || last === null ? words.say("never")
                    : [typeof last.seconds_ago === "number" ? words.ago(last.seconds_ago) : words.say("unknown"), last.outcome !== "succeeded" && words.say(last.outcome === "failed" ? "failed_state" : last.outcome),
                        last.unexplained > 0 && words.say("unexplained", last.unexplained)].filter(Boolean).join(", ");
                const age = row.counted_seconds_ago;
                const name = age > OLD_COUNTS_S ? h("span", null, foreign(row.table), h("small", null, words.say("counted", words.ago(age)))) : foreign(row.table);
                return [name, ...[row.source, row.store, row.index, row.unread, row.parked].map((count) => words.number(count)),
                    words.ago(row.synced_seconds_ago), reconciled];
            });
            const heads = ["table", "at_source", "in_store", "in_index", "unread", "parked", "synced", "reconciled"];
            return [table(words.say("tables"), heads.map((head) => words.say(head)), rows)];
        },
    },
    lag: {
        of: ["lag"],
        class: "wide",
        title: (words) => words.say("lag"),
        draw(words, history) {
            const samples = history.samples ?? [];
            if (samples.length === 0) return [h("p", null, words.say("lag_none"))];
            const [, ...names] = history.columns;
            const known = (list) => list.filter((value) => typeof value === "number");
            const chart = (label, place, scale) => {
                const series = names.map((_, at) => samples.map((sample) => {
                    const [moment, sinks] = sample, value = sinks[at]?.[place];
                    return [Date.parse(moment), typeof value === "number" ? value / scale : null];
                }));
                const said = names.map((name, at) => {
                    const values = known(series[at].map(([, value]) => value)), round = (value) => words.number(Math.round(value * 10) / 10);
                    const now = series[at].at(-1)[1];
                    return h("span", null, h("span", { class: `key line s${at}` }), foreign(name), ` ${words.say("lag_now", now === null ? words.say("unknown") : round(now), values.length ? round(Math.max(...values)) : words.say("unknown"))}`);
                });
                const told = `${label}: ${said.map((element) => element.textContent).join("; ")}`;
                return h("div", null, h("h3", null, label), h("p", { class: "legend" }, said), drawn((width) => lineChart(width, series, words, told)));
            };
            const gaps = samples.filter(([, sinks]) => sinks.length === 0 || sinks.includes(null)).length;
            return [
                h("p", { class: "about" }, words.say("lag_about", words.moment(samples[0][0]))),
                gaps > 0 && h("p", { class: "note" }, words.say("lag_gap", gaps, samples.length)),
                names.length > 0 && h("div", { class: "pair" }, chart(words.say("lag_events"), 0, 1), chart(words.say("lag_wait"), 1, 60)),
            ];
        },
    },
    syncs: {
        of: ["status"],
        class: "wide",
        title: (words) => words.say("syncs"),
        draw(words, status) {
            const syncs = status.recent_syncs ?? [];
            if (syncs.length === 0) return [h("p", null, words.say("none_yet"))];
            const rows = syncs.map((sync) => [
                h("span", null, `${words.say(sync.reconciles ? "reconcile" : "sync")} · `, foreign(sync.table)),
                h("span", null, words.say(sync.state === "failed" ? "failed_state" : sync.state), sync.error && h("small", { lang: "en" }, foreign(sync.error))),
                words.moment(sync.started_at), words.number(sync.rows_read), words.number(sync.appended),
            ]);
            return [table(words.say("syncs"), ["what", "state", "started", "rows", "events"].map((head) => words.say(head)), rows)];
        },
    },
    letters: {
        of: ["letters"],
        class: "wide",
        title: (words) => words.say("letters"),
        draw(words, page) {
            const about = h("p", { class: "about" }, words.say("letters_about"));
            if (page.open === 0) return [about, h("p", null, words.say("letters_none"))];
            const rows = page.letters.map((letter) => [
                h("span", null, foreign([letter.table, letter.sink].filter(Boolean).join(" · ") || "–"), h("small", null, foreign(letter.key ?? letter.id))),
                h("span", { class: "long" }, foreign(letter.error, { lang: "en" }), letter.excerpt && h("small", null, foreign(letter.excerpt))),
                words.moment(letter.parked_at),
            ]);
            const more = page.open - page.letters.length;
            return [about, table(words.say("letters"), ["of", "reason", "parked_at"].map((head) => words.say(head)), rows),
                more > 0 && h("p", { class: "about" }, words.say("and_more", words.number(more)))];
        },
    },
    alerts: {
        of: ["alerts"],
        class: "wide",
        title: (words) => words.say("alerts"),
        draw(words, { alerts, recent }) {
            if (alerts.length === 0) return [h("p", null, words.say("none_yet"))];
            const state = (alert) => (alert.problem ? words.say("unsent", alert.problem) : alert.going_on ? words.say("going_on") : words.say("quiet"));
            const rows = alerts.map((alert) => [foreign(alert.name), foreign(alert.condition, { lang: "en" }), foreign(state(alert)), words.number(alert.fired),
                alert.last_fired_at ? words.moment(alert.last_fired_at) : words.say("never")]);
            const fired = recent.map((one) => h("li", null, words.moment(one.at), " · ", foreign(one.alert), ` · ${words.say(one.state)} · `, foreign(one.detail ?? one.key ?? "")));
            return [table(words.say("alerts"), ["alert", "condition", "state", "fired_count", "last_fired"].map((head) => words.say(head)), rows),
                fired.length > 0 && h("details", { id: "alerts-recent" }, h("summary", { id: "alerts-summary" }, words.say("fired_lately")), h("ul", null, fired))];
        },
    },
    connect: {
        of: ["connect"],
        class: "wide",
        title: (words) => words.say("connect"),
        draw(words, { url, token }) {
            const header = token ? ' --header "Authorization: Bearer $SLUICE_TOKEN"' : "";
            const example = (id, text) => h("pre", { id, tabindex: "0", "aria-label": words.say("connect") }, h("code", null, text));
            return [
                h("p", null, words.say("connect_about"), " ", h("code", null, url)),
                token && h("p", { class: "about" }, words.say("connect_token")),
                example("connect-claude", `claude mcp add --transport http --scope user sluice ${url}${header}`),
                example("connect-others", `sluice client-config cursor --http ${url}${token ? " --token SLUICE_TOKEN" : ""} --write`),
            ];
        },
    },
    none: { of: ["none"], class: "wide", draw: (words, key) => [h("p", { class: "about" }, words.say(key))] },
};
