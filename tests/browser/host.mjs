// A client's side of an App, by the library that the extension's authors give to clients. app.mjs runs it in a page.

import { AppBridge, PostMessageTransport } from "@modelcontextprotocol/ext-apps/app-bridge";

window.show = async ({ html, policy, context, passesOn, args, result }) => {
  const frame = document.createElement("iframe");
  frame.title = "App";
  frame.sandbox = "allow-scripts";
  frame.style.cssText = "border:0;width:100%;height:100px";
  document.body.style.margin = 0;
  document.body.append(frame);
  const host = new AppBridge(null, { name: "suite", version: "1" }, passesOn ? { serverTools: {} } : {}, { hostContext: context });
  if (passesOn) host.oncalltool = (params) => window.callTool(params);
  host.onsizechange = ({ height }) => (frame.style.height = `${height}px`);
  host.oninitialized = () => {
    host.sendToolInput({ arguments: args });
    host.sendToolResult(result);
  };
  host.onerror = (error) => console.error(error);
  window.host = host;
  await host.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.srcdoc = html.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${policy}">`);
};
