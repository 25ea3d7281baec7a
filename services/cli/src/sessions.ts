import { readSessions } from "@reins/runtime"
import { type SessionSummary, summarize } from "@reins/session"
import pc from "picocolors"
import { iso, notFound, readerOf, reading } from "./open.ts"
import { clean } from "./render.ts"

export async function list(options: { readonly json?: boolean; readonly status?: string; readonly agent?: string }): Promise<void> {
  await reading(async ({ log, codec }, config) => {
    const summaries: SessionSummary[] = []
    for (const session of (await readSessions(log, codec, config.prefix)).values()) {
      const summary = summarize(session, iso)
      if (summary === null) continue
      if ((options.status ?? summary.status) !== summary.status || (options.agent ?? summary.agent) !== summary.agent) continue
      summaries.push(summary)
    }
    summaries.sort((a, b) => (a.changedAt < b.changedAt ? 1 : -1))
    if (options.json === true) {
      process.stdout.write(`${JSON.stringify(summaries, null, 2)}\n`)
      return
    }
    if (summaries.length === 0) process.stderr.write("There is no session yet. Start one with `reins run`.\n")
    for (const summary of summaries) process.stdout.write(`${row(summary)}\n`)
  })
}

export async function show(sessionId: string, options: { readonly json?: boolean }): Promise<void> {
  await reading(async (opened, config) => {
    const reader = await readerOf(opened, config, sessionId)
    await reader.read({ tools: false })
    const summary = summarize(reader.session, iso)
    if (summary === null) throw notFound(sessionId)
    process.stdout.write(options.json === true ? `${JSON.stringify(summary, null, 2)}\n` : table(summary))
  })
}

function row({ sessionId, status, stopReason, agent, turns, toolCalls, changedAt }: SessionSummary): string {
  return `${sessionId.padEnd(28)} ${status.padEnd(8)} ${(stopReason ?? "").padEnd(18)} ${clean(agent).padEnd(16)} ${String(turns).padStart(4)} turns ${String(toolCalls).padStart(4)} calls  ${pc.dim(changedAt)}`
}

function table(summary: SessionSummary): string {
  const rows = Object.entries(summary).map(
    ([name, value]) => `${name.padEnd(12)} ${typeof value === "string" ? clean(value) : JSON.stringify(value)}`,
  )
  return `${rows.join("\n")}\n`
}
