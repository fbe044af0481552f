// Fills Node's compile cache at image build: starts the agent as a sandbox does, speaks ACP to it until a session would be
// open, then closes its stdin. The cache is written when the agent leaves by itself, so it must not be killed.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const DEADLINE_MS = 60_000;
const agent = spawn("node", ["/opt/gemini/node_modules/@google/gemini-cli/bundle/gemini.js", "--acp"], {
  stdio: ["pipe", "pipe", "inherit"],
});
const deadline = setTimeout(() => fail("the agent did not answer in time"), DEADLINE_MS);

const gateway = { baseUrl: "http://127.0.0.1:9", headers: {} };
const steps = [
  ["initialize", { protocolVersion: 1, clientCapabilities: {} }],
  ["authenticate", { methodId: "gateway", _meta: { gateway } }],
  ["session/new", { cwd: process.cwd(), mcpServers: [] }],
];
let asked = 0;
ask();

createInterface({ input: agent.stdout }).on("line", (line) => {
  let message;
  try {
    message = JSON.parse(line);
  } catch {
    return; // The CLI prints other lines now and then.
  }
  if (message.id !== asked || message.method) return;
  if (message.error) fail(`${steps[asked - 1][0]}: ${JSON.stringify(message.error)}`);
  if (asked < steps.length) ask();
  else agent.stdin.end();
});

agent.on("exit", (code, signal) => {
  clearTimeout(deadline);
  if (asked < steps.length) fail(`the agent left early: ${code ?? signal}`);
});

function ask() {
  const [method, params] = steps[asked++];
  agent.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: asked, method, params })}\n`);
}

function fail(reason) {
  console.error(`warm: ${reason}`);
  agent.kill("SIGKILL");
  process.exit(1);
}
