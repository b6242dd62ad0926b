// Elements and charts. Text of leads comes in as children, which become text and nothing else.

const SVG = "http://www.w3.org/2000/svg";
const HTML = "http://www.w3.org/1999/xhtml";
const SVG_NAMES = new Set(["svg", "g", "rect", "path", "line", "text", "title"]);

/** Attributes that can do no more than describe. */
const ATTRIBUTE = /^(id|class|type|name|value|for|role|scope|colspan|tabindex|lang|dir|width|height|viewBox|x|y|x1|x2|y1|y2|d|rx|text-anchor|selected|open|hidden|autocomplete|spellcheck|disabled|required|aria-[a-z]+|data-[a-z]+)$/;

/** An element; children are elements or text, and what is absent is left out. */
function h(name, attributes, ...children) {
    const element = document.createElementNS(SVG_NAMES.has(name) ? SVG : HTML, name);
    for (const [attribute, value] of Object.entries(attributes ?? {})) {
        if (!ATTRIBUTE.test(attribute)) throw new Error(`${attribute} is not set here`);
        if (value !== undefined && value !== null && value !== false) element.setAttribute(attribute, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
    return element;
}

/** Text of somebody else's: of whatever direction, it leaves what is around it in place. */
function foreign(text, attributes) {
    return h("bdi", attributes, String(text));
}

/** A table in a box of its own that scrolls sideways, by keyboard, too. */
function table(label, heads, rows) {
    const kind = (content) => ({ class: typeof content === "string" ? undefined : "text" });
    const cell = (content, at) => (at === 0 ? h("th", { scope: "row" }, content) : h("td", kind(content), content));
    return h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
        h("table", null,
            h("thead", null, h("tr", null, heads.map((head, at) => h("th", { scope: "col", ...kind(rows[0]?.[at] ?? "") }, head)))),
            h("tbody", null, rows.map((row) => h("tr", null, row.map(cell))))));
}

/** The least round number that is not below `value`, for the end of an axis. */
function roundUp(value) {
    if (value <= 4) return 4;
    const scale = 10 ** Math.floor(Math.log10(value));
    return [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10].map((step) => step * scale).find((end) => end >= value);
}

/** The frame of a chart: its axis with four lines, and where a value stands. */
function frame(width, height, most, words, label) {
    const end = roundUp(most), left = 12 + 7 * words.number(end).length, bottom = height - 22, top = 8;
    const y = (value) => bottom - (bottom - top) * (value / end);
    const svg = h("svg", { role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}` });
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
        const at = Math.round(y(end * part)) + 0.5;
        svg.append(h("line", { class: "grid", x1: left, x2: width, y1: at, y2: at }));
        if (Number.isInteger(end * part)) {
            svg.append(h("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, words.number(end * part)));
        }
    }
    return { svg, left, bottom, y };
}

/** Columns: of each its whole, and in it a part. `columns`: {label, about, whole, part, open}. */
function columnChart(width, columns, words, label) {
    const { svg, left, bottom, y } = frame(width, 190, Math.max(...columns.map((column) => column.whole)), words, label);
    const step = (width - left) / columns.length, bar = Math.max(1, Math.min(36, step * 0.78));
    const every = Math.ceil(columns.length / Math.max(1, Math.floor((width - left) / 80)));
    columns.forEach((column, at) => {
        const x = left + step * at + (step - bar) / 2;
        const rect = (kind, value) => h("rect", { class: kind, x, y: y(value), width: bar, height: Math.max(0, bottom - y(value)), rx: Math.min(3, bar / 4) });
        svg.append(h("g", null, h("title", null, column.about),
            rect(column.open ? "whole open" : "whole", column.whole), column.part > 0 && rect("part", column.part)));
        // Counted from the newest, which always has its label.
        if ((columns.length - 1 - at) % every === 0) {
            const isLast = at === columns.length - 1;
            svg.append(h("text", { x: isLast ? width : x + bar / 2, y: bottom + 16, "text-anchor": isLast ? "end" : "middle" }, column.label));
        }
    });
    return svg;
}

/** Lines over time. `series`: lists of [moment, value]; a value that is not known breaks its line. */
function lineChart(width, series, words, label) {
    const values = series.flat().map(([, value]) => value ?? 0), moments = series.flat().map(([at]) => at);
    const { svg, left, bottom, y } = frame(width, 130, Math.max(0, ...values), words, label);
    const first = Math.min(...moments), span = Math.max(60_000, Math.max(...moments) - first);
    const x = (at) => left + ((at - first) / span) * (width - left - 4);
    series.forEach((points, at) => {
        let path = "", isDrawn = false;
        for (const [moment, value] of points) {
            if (typeof value === "number") path += `${isDrawn ? "L" : "M"}${x(moment).toFixed(1)} ${y(value).toFixed(1)}`;
            if (typeof value === "number" && !isDrawn) path += "h0.1";
            isDrawn = typeof value === "number";
        }
        svg.append(h("path", { class: `series s${at}`, d: path }));
    });
    const clock = (at, anchor) => h("text", { x: x(at), y: bottom + 16, "text-anchor": anchor }, words.moment(at));
    svg.append(clock(first, "start"), clock(first + span, "end"));
    return svg;
}

/** Something that is drawn as wide as its place is, and anew when that changes. */
function drawn(draw) {
    const place = h("div", { class: "chart" });
    let width = 0;
    new ResizeObserver(() => {
        const now = Math.floor(place.clientWidth);
        if (now > 0 && now !== width) {
            width = now;
            place.replaceChildren(draw(width));
        }
    }).observe(place);
    return place;
}

/** Rows with bars: {label, value, said}, each as long as its share of the most. */
function bars(label, heads, rows) {
    const most = Math.max(1, ...rows.map((row) => row.value));
    const bar = (row) => {
        const svg = h("svg", { class: "bar", width: "100%", height: "14", "aria-hidden": "true" });
        svg.append(h("rect", { class: "part", x: 0, y: 0, width: `${(100 * row.value) / most}%`, height: 14, rx: 3 }));
        return svg;
    };
    return h("table", { class: "bars", "aria-label": label },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, heads[0]), h("td", null), heads.slice(1).map((head) => h("th", { scope: "col" }, head)))),
        h("tbody", null, rows.map((row) => h("tr", null,
            h("th", { scope: "row" }, row.label), h("td", null, bar(row)), row.said.map((text) => h("td", null, text))))));
}
