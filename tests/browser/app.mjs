// The App as a client shows it: in a sandbox without an origin, under the policy that the extension's specification
// gives an App that declares nothing, told everything over postMessage.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { check } from "./server.mjs";

const esbuild = createRequire(`${process.env.SLUICE_SUITES}/`)("esbuild");

const SHOWS = { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } };
const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'none'";

/** host.mjs and what it imports, as a page runs them. */
const host = async () => {
  const entryPoints = [fileURLToPath(new URL("host.mjs", import.meta.url))];
  const { outputFiles } = await esbuild.build({ entryPoints, bundle: true, write: false, logLevel: "error", nodePaths: [`${process.env.SLUICE_SUITES}/node_modules`] });
  return outputFiles[0].text;
};

export class App {
  constructor(browser, accessible) {
    Object.assign(this, { browser, accessible, host: host() });
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
    await page.addScriptTag({ content: await this.host });
    await page.evaluate((shown) => window.show(shown), { html: content.text, policy: POLICY, context, passesOn, args, result });
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
    await page.evaluate(() => window.host.teardownResource({}));
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
    await page.evaluate(() => window.host.sendToolResult({ isError: true, content: [{ type: "text", text: "the store can't be reached" }] }));
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
