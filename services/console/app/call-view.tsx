import type { JSX } from "preact"
import { useState } from "preact/hooks"
import { type Placed, send, type Waiting } from "./api.ts"
import { Badge, type Inspecting, Line } from "./line.tsx"
import { LongText } from "./long-text.tsx"
import { between, type CallItem, textOf } from "./transcript.ts"
import { useSending } from "./use-sending.ts"
import { duration, layOut, visible } from "./visible.ts"

const settleMs = 3000

interface CallProps extends Inspecting {
  readonly sessionId: string
  readonly call: CallItem
  readonly waiting: Waiting | null
  readonly running: boolean
}

/** A tool call: what it was asked to do, what a person said to that, what came back. */
export function CallView({ sessionId, call, waiting, running, ...shared }: CallProps): JSX.Element {
  const { use, confirmations, result } = call
  const { event } = use
  const server = event["mcp_server_name"]
  // What waits is shown by the very text that its hash is of.
  const given = waiting?.arguments ?? JSON.stringify(event["input"] ?? {})
  const [word, kind] = wordOf(call, waiting, running)
  return (
    <>
      <Line label="Tool" placed={use} {...shared}>
        <div class={`call call-${kind}`}>
          <p class="call-head">
            <strong>{visible(String(event["name"]))}</strong>
            {typeof server === "string" && <span class="server">{visible(server)}</span>}
            {event.type === "agent.custom_tool_use" && <span class="server">run by the client</span>}
            <span class="call-state">{word}</span>
          </p>
          <pre class="code" tabIndex={0} aria-label="Arguments">
            <LongText text={visible(given.length <= 72 ? given : layOut(given))} />
          </pre>
          {waiting !== null && waiting.reason !== "client" && <Approval sessionId={sessionId} waiting={waiting} />}
          {waiting?.reason === "client" && <p class="hint">The client that runs this tool has to answer; until then the session waits.</p>}
        </div>
      </Line>
      {confirmations.map((placed) => (
        <Confirmation key={placed.event.id} placed={placed} {...shared} />
      ))}
      {result !== null && <Result placed={result} tookMs={between(use, result)} {...shared} />}
    </>
  )
}

type Kind = "open" | "waiting" | "done" | "bad"

function wordOf({ confirmations, result }: CallItem, waiting: Waiting | null, running: boolean): readonly [string, Kind] {
  if (result !== null && confirmations.at(-1)?.event["result"] === "deny") return ["denied", "bad"]
  if (result !== null) return result.event["is_error"] === true ? ["failed", "bad"] : ["done", "done"]
  switch (waiting?.reason) {
    case "approval":
      return ["waits for you", "waiting"]
    case "client":
      return ["waits for the client", "waiting"]
    case "outcome_unknown":
      return ["outcome unknown", "waiting"]
    default:
      return [running ? "running" : "open", "open"]
  }
}

function Confirmation({ placed, ...shared }: { readonly placed: Placed } & Inspecting): JSX.Element {
  const { event } = placed
  const denied = event["result"] === "deny"
  const message = event["deny_message"]
  return (
    <Line label="Answer" placed={placed} {...shared}>
      <p>
        {denied ? "Denied" : "Allowed"}
        {denied && typeof message === "string" && message !== "" ? `: ${visible(message)}` : ""}
      </p>
    </Line>
  )
}

function Result({
  placed,
  tookMs,
  inspect,
  inspected,
}: { readonly placed: Placed; readonly tookMs: number | null } & Inspecting): JSX.Element {
  const { event } = placed
  const bad = event["is_error"] === true
  const text = textOf(event["content"])
  return (
    <div class={`line result${bad ? " result-bad" : ""}`}>
      <span class="label">{bad ? "Error" : "Result"}</span>
      <pre class="content code" tabIndex={0} aria-label={bad ? "Error of the tool" : "Result of the tool"}>
        {text === "" ? <em>nothing</em> : <LongText text={visible(/^\s*[[{]/.test(text) && text.length > 72 ? layOut(text) : text)} />}
      </pre>
      <span class="badges">
        {tookMs !== null && <span class="took">{duration(tookMs)}</span>}
        <Badge placed={placed} inspect={inspect} inspected={inspected} />
      </span>
    </div>
  )
}

/** Allow or deny, where the arguments stand. The answer goes to this very call; nothing can change what it would do. */
function Approval({ sessionId, waiting }: { readonly sessionId: string; readonly waiting: Waiting }): JSX.Element {
  const [denying, setDenying] = useState(false)
  const [reason, setReason] = useState("")
  const [answered, setAnswered] = useState(false)
  const { busy, problem, run } = useSending()
  const unknown = waiting.reason === "outcome_unknown"
  const answer = (result: "allow" | "deny"): void => {
    const message = result === "deny" && reason.trim() !== "" ? { deny_message: reason.trim() } : {}
    void run(async () => {
      await send(sessionId, { type: "user.tool_confirmation", tool_use_id: waiting.event_id, result, ...message })
      // The log has it; that the call no longer waits is seen in a moment, and until then it is not asked about again.
      setAnswered(true)
      setTimeout(() => setAnswered(false), settleMs)
    })
  }
  if (answered) return <p class="hint">Answered.</p>
  return (
    <div class="approval">
      <p>
        {unknown
          ? `Nobody knows whether this call happened. ${waiting.message === null ? "" : visible(waiting.message)}`
          : "It runs once if you allow it, with exactly these arguments."}
      </p>
      {denying ? (
        <form
          onSubmit={(event) => {
            event.preventDefault()
            answer("deny")
          }}
        >
          <label>
            What the agent is told <span class="optional">(optional)</span>
            <textarea
              rows={2}
              value={reason}
              ref={(area) => {
                if (area !== null && document.activeElement !== area && reason === "") area.focus()
              }}
              onInput={(event) => setReason(event.currentTarget.value)}
            />
          </label>
          <div class="buttons">
            <button class="danger" type="submit" disabled={busy}>
              {unknown ? "Leave it" : "Deny"}
            </button>
            <button type="button" onClick={() => setDenying(false)}>
              Back
            </button>
          </div>
        </form>
      ) : (
        <div class="buttons">
          <button class="primary" type="button" disabled={busy} onClick={() => answer("allow")}>
            {unknown ? "Run it again" : "Allow once"}
          </button>
          <button type="button" disabled={busy} onClick={() => setDenying(true)}>
            {unknown ? "Leave it…" : "Deny…"}
          </button>
        </div>
      )}
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      <p class="hash">
        Arguments SHA-256 <code>{waiting.arguments_sha256}</code>
      </p>
    </div>
  )
}
