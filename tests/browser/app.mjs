// The App as a client shows it: in a sandbox without an origin, under the policy that the extension's specification
// gives an App that declares nothing, told everything over postMessage.

import { check } from "./server.mjs";

const SHOWS = { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } };
const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'none'";

/** Stands in the page of a client. */
function client({ html, policy, context, passesOn, args, result }) {
  const frame = document.createElement("iframe");
  frame.title = "App";
  frame.sandbox = "allow-scripts";
  frame.style.cssText = "border:0;width:100%;height:100px";
  frame.srcdoc = html.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${policy}">`);
  window.heard = [];
  const say = (message) => frame.contentWindow.postMessage({ jsonrpc: "2.0", ...message }, "*");
  window.say = say;
  window.addEventListener("message", async ({ source, data }) => {
    if (source !== frame.contentWindow) return;
    window.heard.push(data.method ?? `answer ${data.id}`);
    if (data.method === "ui/initialize") {
      say({ id: data.id, result: { protocolVersion: "2026-01-26", hostInfo: { name: "suite", version: "1" }, hostCapabilities: passesOn ? { serverTools: {} } : {}, hostContext: context } });
    } else if (data.method === "ui/notifications/initialized") {
      say({ method: "ui/notifications/tool-input", params: { arguments: args } });
      say({ method: "ui/notifications/tool-result", params: result });
    } else if (data.method === "tools/call") {
      say({ id: data.id, result: await window.callTool(data.params) });
    } else if (data.method === "ui/notifications/size-changed") {
      frame.style.height = `${data.params.height}px`;
    }
  });
  document.body.style.margin = 0;
  document.body.append(frame);
}

export class App {
  constructor(browser, accessible) {
    Object.assign(this, { browser, accessible });
  }

  /** A client that has called a report, and shows its App. */
  async open(server, { args, context = {}, passesOn = true, viewport = { width: 720, height: 900 } }) {
    const { tools } = await server.ask("tools/list", {}, SHOWS);
    const uri = tools.find((tool) => tool.name === "lead_report")._meta.ui.resourceUri;
    const { contents: [content] } = await server.ask("resources/read", { uri }, SHOWS);
    check(content.mimeType === "text/html;profile=mcp-app", `the App is ${content.mimeType}`);
    const browser = await this.browser.newContext({ viewport, locale: "en-US" });
    const page = await browser.newPage();
    page.wrongs = [];
    page.on("console", (message) => message.type() === "error" && page.wrongs.push(message.text()));
    page.on("pageerror", (error) => page.wrongs.push(String(error)));
    page.on("request", (request) => !/^(about|data):|^http:\/\/client\.example\/$/.test(request.url()) && page.wrongs.push(`${request.url()} was asked for`));
    await page.route("http://client.example/", (route) => route.fulfill({ contentType: "text/html", body: '<!doctype html><html lang="en"><title>client</title><body></body></html>' }));
    await page.exposeFunction("callTool", ({ name, arguments: given }) => server.ask("tools/call", { name, arguments: given }));
    await page.goto("http://client.example/");
    const result = await server.ask("tools/call", { name: "lead_report", arguments: args });
    await page.evaluate(client, { html: content.text, policy: POLICY, context, passesOn, args, result });
    const frame = page.frames().find((each) => each !== page.mainFrame());
    return { page, frame, result };
  }

  async shows(server, hostile) {
    const context = { theme: "dark", locale: "pt-BR", styles: { variables: { "--color-background-primary": "#101010", "--color-text-primary": "url(http://elsewhere.example/x)" } } };
    const { page, frame, result } = await this.open(server, { args: { period: "last_30_days", group_by: ["origem"] }, context });
    await frame.locator("#origins").getByText(hostile).waitFor();
    await frame.locator("#origins .about").getByText("como foi respondido nesta conversa").waitFor();
    await frame.locator("#arrivals strong").first().filter({ hasText: String(result.structuredContent.total.leads) }).waitFor();
    for (const section of ["#days svg", "#funnel table", "#health .verdict"]) await frame.locator(section).first().waitFor();
    check(await frame.evaluate(() => document.images.length) === 0, "text of a lead became an element");
    check(await frame.evaluate(() => getComputedStyle(document.body).backgroundColor) === "rgb(16, 16, 16)", "the client's colours are not followed");
    await this.accessible(frame, "the App");
    const height = await frame.evaluate(() => document.documentElement.getBoundingClientRect().height);
    await page.waitForFunction((wanted) => Math.abs(document.querySelector("iframe").clientHeight - wanted) < 3, height);
    await page.evaluate(() => window.say({ id: "end", method: "ui/resource-teardown", params: {} }));
    await page.waitForFunction(() => window.heard.includes("answer end"));
    check(page.wrongs.length === 0, `the App: ${page.wrongs.join("; ")}`);
    await page.context().close();
  }

  /** What the answer itself says is shown, and what is missing is said to be. */
  async alone(server) {
    const { page, frame } = await this.open(server, { args: { period: "last_7_days", group_by: ["campanha", "status"] }, passesOn: false });
    await frame.locator("#arrivals strong").first().waitFor();
    await frame.getByRole("heading", { name: "Status · Campaign" }).waitFor();
    await frame.locator("#asked table").waitFor();
    await frame.getByText("passes no further questions on").waitFor();
    check(await frame.locator("#refresh").isHidden(), "a button is shown that can do nothing");
    await page.evaluate(() => window.say({ method: "ui/notifications/tool-result", params: { isError: true, content: [{ type: "text", text: "the store can't be reached" }] } }));
    await frame.getByText("could not be loaded: the store can't be reached").waitFor();
    await this.accessible(frame, "the App alone");
    check(page.wrongs.length === 0, `the App alone: ${page.wrongs.join("; ")}`);
    await page.context().close();
  }

  async pictured(server, picture, viewport) {
    const { page, frame } = await this.open(server, { args: { period: "last_30_days", group_by: ["day"] }, context: { theme: "light", locale: "pt-BR" }, viewport });
    await frame.locator("#origins table").waitFor();
    await frame.locator("#health .verdict").waitFor();
    await this.accessible(frame, "the App on a phone");
    // What is outside of a window is not drawn in a frame.
    await page.setViewportSize({ width: viewport.width, height: await page.evaluate(() => document.querySelector("iframe").clientHeight) });
    await picture(page);
    await page.context().close();
  }
}
