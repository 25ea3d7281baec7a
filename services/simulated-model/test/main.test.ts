import assert from "node:assert/strict"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import Anthropic from "@anthropic-ai/sdk"
import { request } from "./client.ts"

function start(environment: Readonly<Record<string, string>>): ChildProcess {
  return spawn(process.execPath, [fileURLToPath(new URL("../src/main.ts", import.meta.url))], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  })
}

async function textOf(stream: NodeJS.ReadableStream | null): Promise<string> {
  let text = ""
  if (stream !== null) for await (const chunk of stream) text += String(chunk)
  return text
}

test("the process prints its URL, says what it is, answers, and ends at SIGTERM", async () => {
  const child = start({ REINS_PORT: "0" })
  const said = textOf(child.stderr)
  try {
    assert.ok(child.stdout !== null)
    const [url] = (await once(createInterface({ input: child.stdout }), "line")) as [string]
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/)
    const client = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 })
    assert.equal((await client.messages.stream(request("Hello")).finalMessage()).model, "simulated/claude-sonnet-5-5")
  } finally {
    const exited = once(child, "exit")
    child.kill("SIGTERM")
    assert.deepEqual(await exited, [0, null])
  }
  assert.match(await said, /simulated model, not a language model/)
})

test("a setting that makes no sense is one sentence and exit code 1", async () => {
  const child = start({ REINS_PORT: "http" })
  const [said, exited] = await Promise.all([textOf(child.stderr), once(child, "exit")])
  assert.equal(said, 'REINS_PORT must be a whole number from 0 to 65535, not "http".\n')
  assert.deepEqual(exited, [1, null])
})
