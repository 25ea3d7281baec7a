import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { FaultKind } from "./faults.ts"
import type { Patch } from "./mutate.ts"

/** A deliberate bug. */
export interface Mutant {
  readonly name: string
  /** What it does wrong, and which rule of the design it switches off. */
  readonly wrong: string
  readonly patches: readonly Patch[]
  /** Faults without which it hardly ever shows; they then strike as often as they can. */
  readonly shownBy?: readonly FaultKind[]
}

/**
 * Left out, because they change nothing that anyone could see:
 *
 * - A takeover of a model call that need not name the open request: attempts are numbered, each number is accepted once, so a request
 *   for attempt n+1 can only have been decided on attempt n. The name is for readers of the log.
 * - A cancel that is forgotten when its dispatch comes after it: it is sent only after the deadline, and what comes then is superseded by
 *   its timestamp. It takes brokers' clocks that differ to need both, which the tests of the fold have; "late-copies-run" takes both
 *   away at once.
 * - A fold that forgets how far commands are answered: every answer carries its commandId, which the session remembers. The offsets spare
 *   intake the judging; "command-heard-twice" takes both away at once.
 * - Results that are sent only once, and decisions (not effects) of a process whose membership is not sure: the fold refuses what the
 *   wrong one says, and deadlines close what is left; it costs time and `outcome-unknown`, never a promise.
 * - Claims that are not given up when a process drains: it leaves its group a moment later, and whoever comes next takes them over.
 * - Deciding before the declarations are known: intake then rejects an agent whose tools it does not know yet.
 * - Erasing on a deletion that is appended and not read back: the tombstones leave behind it in the order of their partition (rule 9) and
 *   are withdrawn with it. Only where a zombie's deletion lands late and is refused would they stand alone, and no seed has told that yet.
 */
export const mutants: readonly Mutant[] = [
  {
    name: "dispatch-before-append",
    wrong: "The router sends a call to its backend before its decision is read back (rule 3).",
    patches: [
      { folder: "services/tool-router/src", find: "if (!readBack(view, call)) return []", replace: "" },
      {
        folder: "services/tool-router/src",
        find: "const settled = view.settled as Known\n",
        replace: "const settled = view.session as Known\n",
      },
    ],
  },
  {
    name: "model-asked-before-read-back",
    wrong: "The invoker asks the model on its own claim before it has read it back (rule 3).",
    patches: [
      {
        folder: "services/llm-invoker/src",
        find: "const { settled } = view\n  if (settled.phase !==",
        replace: "const settled = view.session\n  if (settled.phase !==",
      },
    ],
  },
  {
    name: "tool-run-before-read-back",
    wrong: "The worker runs a call on its own claim before it has read it back (rule 3).",
    patches: [{ folder: "services/worker-kit/src", find: "const standing = call?.claim\n", replace: "const standing = ahead.claim\n" }],
  },
  {
    name: "commands-committed-early",
    wrong: "The offset of a command is committed before its answer stands (rule 14).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "this.next.get(topic) ?? 0, ...this.answering.offsets())",
        replace: "this.next.get(topic) ?? 0)",
      },
    ],
  },
  {
    name: "calls-committed-early",
    wrong: "The offsets of a tool topic are committed past calls that are still open (rule 14).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "return owned.toolsFold(backend).forget(next, forgetMarginMs, (call) => owned.awaits(call))",
        replace: "return next",
      },
    ],
  },
  {
    name: "result-missing-runs-again",
    wrong: "An unsafe call whose worker died is run again, whatever its class (section 5).",
    patches: [
      {
        folder: "services/worker-kit/src",
        find: '    case "keyed":\n      return inTime',
        replace: '    case "keyed":\n    case "unsafe":\n      return inTime',
      },
    ],
  },
  {
    name: "key-per-attempt",
    wrong: "Every attempt has an idempotency key of its own (section 5).",
    patches: [
      {
        folder: "services/tool-router/src",
        find: "idempotencyKey: `${session.sessionId}/${call.toolUseId}`,",
        replace: "idempotencyKey: `${session.sessionId}/${call.toolUseId}/${attempt}`,",
      },
    ],
  },
  {
    name: "parallel-result-dropped",
    wrong: "Of more than two parallel results the rest is left out of the next request (E6).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "session.calls.map(resultBlock)",
        replace: "session.calls.slice(0, 2).map(resultBlock)",
      },
    ],
  },
  {
    name: "parallel-results-reordered",
    wrong: "Parallel results go to the model in another order than it asked for them (E6).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "session.calls.map(resultBlock)",
        replace: "session.calls.toReversed().map(resultBlock)",
      },
    ],
  },
  {
    name: "cut-answer-acted-on",
    wrong: "Calls of an answer that was cut off are run.",
    patches: [{ folder: "schemas/session/src", find: 'const run = event.stopReason === "tool_use"', replace: "const run = true" }],
    shownBy: ["model-cut"],
  },
  {
    name: "poison-swallowed",
    wrong: "A record that nobody can read is skipped without a word (rule 16).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (service === undefined || record.offset < (owned.buriedTo.get(record.topic) ?? 0)) return",
        replace: "if (service !== undefined) return",
      },
    ],
  },
  {
    name: "ordered-by-timestamp",
    wrong: "The fold takes a record whose speaker's clock is behind for an old one (rule 11).",
    patches: [
      {
        folder: "schemas/session/src",
        find: '  switch (session.phase) {\n    case "absent":\n      return fromAbsent',
        replace:
          '  if (session.phase !== "absent" && event.at < session.changedAt - 1000) return refuse(session, event)\n  switch (session.phase) {\n    case "absent":\n      return fromAbsent',
      },
    ],
  },
  {
    name: "key-is-session",
    wrong: "Records of a session share one key, so that compaction keeps the last (section 3).",
    patches: [{ folder: "services/runtime/src", find: "key: () => `${sessionId}/${this.id()}`", replace: "key: () => sessionId" }],
  },
  {
    name: "decides-while-replaying",
    wrong: "Decisions are taken before the partition is folded to its end (rule 2).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "    for (const topic of this.#followed) if (!owned.caughtUp.has(topic)) return false\n    return true",
        replace: "    return true",
      },
    ],
    shownBy: ["kill", "slow-topic", "tool-slow"],
  },
  {
    name: "result-without-claim-counts",
    wrong: "A result counts whichever claim it stands on (rule 4).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "  if (!needsClaim(effect)) return true\n",
        replace: "  if (effect !== undefined) return true\n",
      },
    ],
    shownBy: ["zombie", "tool-slow", "join", "append-late", "append-unanswered"],
  },
  {
    name: "model-result-of-any-claim",
    wrong: "An answer counts whichever request it stands on (rule 4).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'session.request.state.is !== "open" || session.request.claim !== event.claim)\n    return refuse(session, event)\n  const read',
        replace: 'session.request.state.is !== "open")\n    return refuse(session, event)\n  const read',
      },
    ],
  },
  {
    name: "takeover-of-any-claim",
    wrong: "A takeover of a tool call need not name the claim that is open (rule 5).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "call.claim !== null && call.claim.claim === event.replaces",
        replace: "call.claim !== null",
      },
    ],
    shownBy: ["append-late", "tool-orphaned", "zombie", "tool-slow"],
  },
  {
    name: "higher-attempt-refused",
    wrong: "A backend's topic takes no attempt after the first (rule 5).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "if (call !== undefined && event.attempt <= call.attempt)",
        replace: "if (call !== undefined && call.attempt > 0)",
      },
    ],
  },
  {
    name: "attempts-uncounted",
    wrong: "Any attempt at a call may follow any other (rule 5).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if (call.state.is !== "wanted" || event.attempt !== call.attempt + 1 || event.causedBy',
        replace: 'if (call.state.is === "done" || event.causedBy',
      },
    ],
  },
  {
    name: "everyone-else-is-gone",
    wrong: "Whoever is not us is gone, without a look at its group (rule 6).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (instance === this.#instance) return false",
        replace: "if (instance !== this.#instance) return true",
      },
    ],
  },
  {
    name: "any-answer-trusted",
    wrong: "An answer about a group counts though it is empty or lacks ourselves (rule 6).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "(group === this.#group ? members.has(this.#instance) : members.size > 0)",
        replace: "members.size >= 0",
      },
    ],
    shownBy: ["look-failed", "model-slow", "tool-slow", "drain"],
  },
  {
    name: "dead-live-for-ever",
    wrong: "Nobody is ever gone (rule 6).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (absence !== undefined && this.#isFresh(absence.lastMs) && absence.lastMs - absence.sinceMs >= this.#log.absenceGraceMs) return true",
        replace: "",
      },
    ],
  },
  {
    name: "unsure-begins",
    wrong: "An instance whose membership is not sure decides and begins as any other (rule 7).",
    patches: [
      { folder: "services/runtime/src", find: "if (this.#following?.alive() !== true) {", replace: "if (this.#following === undefined) {" },
      {
        folder: "services/runtime/src",
        find: "if (this.#following?.alive() === true) {\n              await",
        replace: "if (this.#following !== undefined) {\n              await",
      },
    ],
    shownBy: ["zombie", "slow-topic"],
  },
  {
    name: "unsure-begins-what-waited",
    wrong: "What has waited for a free place begins though membership is not sure any more (rule 7).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (this.#following?.alive() === true) {\n              await",
        replace: "if (this.#following !== undefined) {\n              await",
      },
    ],
    shownBy: ["zombie", "model-slow", "tool-slow"],
  },
  {
    name: "waiting-begins-unasked",
    wrong: "What has waited for a free place begins though what comes of it stands by now (P3).",
    patches: [{ folder: "services/runtime/src", find: "if (waited && !stop.signal.aborted &&", replace: "if (waited && stop === null &&" }],
    shownBy: ["append-lost", "append-unanswered", "append-late"],
  },
  {
    name: "waiting-begins-after-loss",
    wrong: "What waits for a free place begins though its partition was lost meanwhile (rule 7).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "for (const performers of this.#performers.values()) performers.dropWaiting(partition)",
        replace: "",
      },
    ],
    shownBy: ["join", "zombie", "tool-slow", "tool-hang"],
  },
  {
    name: "unbegun-claims-kept",
    wrong: "Claims that were not begun are not given up when their partition is lost (rule 7).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "    this.#giveUp(owned)\n    for (const performers",
        replace: "    for (const performers",
      },
    ],
    shownBy: ["join", "zombie", "model-slow", "tool-slow"],
  },
  {
    name: "loop-waits-for-effects",
    wrong: "The loop takes nothing more from the log before the effects that it has begun are over (rule 8).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (topic === this.#topics.sessions) this.#passAnswers(owned)\n    this.#scheduleDecide(owned)\n",
        replace: `if (topic === this.#topics.sessions) this.#passAnswers(owned)
    this.#scheduleDecide(owned)
    return new Promise((resolve) => {
      const look = (): void => {
        if ([...this.#performers.values()].some(({ running }) => running > 0)) this.#clock.after(50, look)
        else resolve()
      }
      this.#clock.after(0, look)
    })
`,
      },
    ],
    shownBy: ["tool-slow", "tool-hang", "model-slow", "model-hang"],
  },
  {
    name: "writes-overtake",
    wrong: "A write does not wait for the one before it, so that either may land first (rule 9).",
    patches: [
      {
        folder: "services/log/src",
        find: "if (this.#scheduled || this.#inFlight) return",
        replace: "if (this.#scheduled) return",
      },
      { folder: "services/log/src", find: "if (this.#inFlight || this.#closing) return", replace: "if (this.#closing) return" },
    ],
  },
  {
    name: "batch-out-of-order",
    wrong: "What leaves together does not stand in the order in which it was appended (rule 9).",
    patches: [
      {
        folder: "services/log/src",
        find: "return lane.queue.splice(0, count)\n",
        replace: "return lane.queue.splice(0, count).reverse()\n",
      },
    ],
  },
  {
    name: "command-answered-once",
    wrong: "The answer to a command is sent once, whatever becomes of it (rule 10).",
    patches: [
      {
        folder: "services/runtime/src",
        find: '{ on: "sessions", event }, origin, "until-withdrawn")',
        replace: '{ on: "sessions", event }, origin, "once")',
      },
    ],
  },
  {
    name: "retry-after-ignored",
    wrong: "The model is asked again at once, whatever the provider asked for (rule 11).",
    patches: [
      { folder: "services/llm-invoker/src", find: 'if (view.now < notBefore) return [{ do: "wake", at: notBefore }]', replace: "" },
    ],
  },
  {
    name: "wall-clock",
    wrong: "Deadlines are judged by the machine's wall clock (rule 11).",
    patches: [{ folder: "services/runtime/src", find: "Math.floor(this.#clock.monotonic() + this.#ahead)", replace: "this.#clock.wall()" }],
  },
  {
    name: "no-model-deadline",
    wrong: "A model call that hangs is waited for for ever (rule 11).",
    patches: [
      {
        folder: "services/llm-invoker/src",
        find: "if (view.now > closesAt) return [fail(",
        replace: "if (view.now < 0) return [fail(",
      },
      { folder: "services/llm-invoker/src", find: "performing.abortAfter(timeoutMs)", replace: "" },
    ],
  },
  {
    name: "deadline-without-cancel",
    wrong: "At its deadline an unsafe call is given up without asking its topic whether it began (rule 12).",
    patches: [
      {
        folder: "services/tool-router/src",
        find: "    if (once(state.effect))\n      return [\n        onTools(",
        replace: "    if (view.now < 0)\n      return [\n        onTools(",
      },
    ],
  },
  {
    name: "claimed-call-said-not-run",
    wrong: "A call that was cancelled after a claim is said not to have run (rule 12).",
    patches: [{ folder: "services/tool-router/src", find: "if (cancelled.claimed)", replace: "if (view.now < 0)" }],
  },
  {
    name: "closed-call-left-open",
    wrong: "A call that its session has closed stays open on its backend's topic (rule 12).",
    patches: [
      { folder: "services/tool-router/src", find: "return [...intents, ...cancelClosed(view)]", replace: "return intents" },
      {
        folder: "services/tool-router/src",
        find: "if (!isStarted(session)) return cancelClosed(view)",
        replace: "if (!isStarted(session)) return []",
      },
    ],
  },
  {
    name: "late-dispatch-taken",
    wrong: "A dispatch that comes after its deadline is taken (rule 13).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if (at.timestamp > event.deadlineAt) return { call, verdict: "superseded" }',
        replace: "",
      },
    ],
    shownBy: ["append-late", "append-lost", "pause"],
  },
  {
    name: "late-claim-taken",
    wrong: "A first claim that comes after the deadline is taken (rule 13).",
    patches: [
      { folder: "schemas/session/src", find: "call.claim === null && at.timestamp <= call.deadlineAt", replace: "call.claim === null" },
    ],
    shownBy: ["append-late", "append-lost", "pause"],
  },
  {
    name: "late-copies-run",
    wrong: "Late dispatches and claims are taken, and a cancel that came before them is forgotten (rules 12 and 13).",
    patches: [
      { folder: "schemas/session/src", find: 'if (at.timestamp > event.deadlineAt) return { call, verdict: "superseded" }', replace: "" },
      { folder: "schemas/session/src", find: "call.claim === null && at.timestamp <= call.deadlineAt", replace: "call.claim === null" },
      {
        folder: "schemas/session/src",
        find: "cancelled: call?.cancelledAhead.includes(event.attempt) === true ? { claimed: false } : null",
        replace: "cancelled: null",
      },
    ],
    shownBy: ["append-late", "append-lost", "pause"],
  },
  {
    name: "commands-overtake",
    wrong: "What is appended again comes after what is newer (rule 15).",
    patches: [
      {
        folder: "services/log/src",
        find: "lane.queue.unshift(...again)\n    for",
        replace: "lane.queue.push(...again)\n    for",
      },
    ],
  },
  {
    name: "command-heard-twice",
    wrong: "A commandId may be answered twice (rule 15).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if ("commandId" in event && heard(session.commands, event.commandId)) {',
        replace: "if (false) {",
      },
      {
        folder: "schemas/session/src",
        find: 'if (command !== null && command.offset <= newest && event.type !== "command.rejected") return "duplicate"',
        replace: "",
      },
    ],
  },
  {
    name: "breach-not-parked",
    wrong: "A session whose response nobody can use is not parked (rule 16).",
    patches: [
      {
        folder: "services/tool-router/src",
        find: 'if (session.breach !== null && session.phase !== "parked" && session.phase !== "ended") {',
        replace: "if (session.breach !== null && view.now < 0) {",
      },
    ],
  },
  {
    name: "folded-over-a-gap",
    wrong: "An append is folded at its acknowledgement though something stands before it (rule 18).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (owned.next.get(topic) === placed.offset) {",
        replace: "if ((owned.next.get(topic) ?? 0) <= placed.offset) {",
      },
    ],
  },
  {
    name: "request-on-any-prefix",
    wrong: "A model request is accepted on a conversation that the log does not have (E3, rule 19).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "if (event.conversationDigest !== digestOf(conversation)) return refuse(session, event)",
        replace: "",
      },
    ],
  },
  {
    name: "snapshot-ahead-of-the-fold",
    wrong: "A snapshot says that it has records which were not folded when it was taken (S1).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "const folded = (owned.next.get(topics.sessions) ?? 0) - 1",
        replace: "const folded = (owned.next.get(topics.sessions) ?? 0) + 2",
      },
    ],
  },
  {
    name: "low-watermark-too-high",
    wrong: "The low watermark of the session log passes records that no snapshot has (rule 14, W1).",
    patches: [{ folder: "services/runtime/src", find: "if (uncoveredFrom < mark) mark = uncoveredFrom", replace: "void uncoveredFrom" }],
  },
  {
    name: "spilled-state-behind",
    wrong: "A session that was spilled before is spilled as it was then (K1).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (this.#unchanged.get(sessionId) !== session)",
        replace: "if (this.#spill.statusOf(sessionId) === undefined)",
      },
    ],
  },
  {
    name: "snapshot-behind-its-word",
    wrong: "What a snapshot of a session covers is believed, whichever state it is restored with (W1).",
    patches: [{ folder: "services/runtime/src", find: "place.restored = offset\n", replace: "place.restored = offset + 4\n" }],
  },
  {
    name: "zombie-snapshot-believed",
    wrong: "A snapshot that came after the commit is relied on, however little it covers (rule 14, S3).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "else if (best.at >= relied.next) from = Math.min(from, best.offset + 1)",
        replace: "",
      },
    ],
    shownBy: ["compaction", "append-late"],
  },
  {
    name: "summary-keeps-what-it-replaces",
    wrong: "A summary is added to the conversation that it stands for (E11).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'conversation: sayAll(say(null, "user", event.content), session.compaction.taken),',
        replace: 'conversation: sayAll(say(session.conversation, "user", event.content), session.compaction.taken),',
      },
    ],
    shownBy: ["model-window"],
  },
  {
    name: "summary-swallows-messages",
    wrong: "Messages that were taken with a summary are lost where it comes to nothing (E11).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "return { conversation: sayAll(session.conversation, taken) }",
        replace: "return { conversation: sayAll(session.conversation, taken.slice(taken.length)) }",
      },
    ],
    shownBy: ["model-window"],
  },
  {
    name: "takes-everything",
    wrong: "A model request takes messages that it does not name.",
    patches: [{ folder: "schemas/session/src", find: "queued: session.queued.slice(event.takes),", replace: "queued: []," }],
  },
  {
    name: "interrupt-lets-tools-run",
    wrong: "An interrupt stops no tool calls (E7).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if (session.phase === "idle") return { ...stamped(session, at), commands }',
        replace: 'if (session.phase === "idle" || session.phase === "awaiting-tools") return { ...stamped(session, at), commands }',
      },
    ],
  },
  {
    name: "turns-unlimited",
    wrong: "The limit on turns is not kept.",
    patches: [{ folder: "services/llm-invoker/src", find: "if (session.turns >= limits.turns)", replace: "if (session.turns < 0)" }],
  },
  {
    name: "calls-unlimited",
    wrong: "The limit on tool calls is not kept.",
    patches: [{ folder: "services/tool-router/src", find: "if (charged >= session.agent.limits.toolCalls)", replace: "if (charged < 0)" }],
  },
  {
    name: "authority-unchecked",
    wrong: "An unsafe tool goes out to workers that do not claim (section 5).",
    patches: [{ folder: "services/tool-router/src", find: "if (once(tool.effect) && !tool.claims &&", replace: "if (view.now < 0 &&" }],
  },
  {
    name: "arguments-unchecked",
    wrong: "Arguments go out unvalidated.",
    patches: [
      {
        folder: "services/tool-router/src",
        find: "if (fault !== null) return refuse",
        replace: 'if (fault === "never") return refuse',
      },
    ],
  },
  {
    name: "effect-begun-again",
    wrong: "An effect begins as often as a decision asks for it.",
    patches: [{ folder: "services/runtime/src", find: "if (this.#begun.has(waiting.key)) return", replace: "" }],
  },
  {
    name: "asked-and-run-anyway",
    wrong: "A queryable call that has not happened is run again though the asking did not forbid the old run (section 5).",
    patches: [
      { folder: "services/worker-kit/src", find: "if (answer.forbidden) return claimed", replace: "if (!answer.happened) return claimed" },
    ],
    shownBy: ["tool-orphaned"],
  },
  {
    name: "answer-not-adopted",
    wrong: "A queryable call that happened is run again (section 5).",
    patches: [
      {
        folder: "services/worker-kit/src",
        find: "if (answer.happened) {",
        replace: "if (answer.happened) return claimed(me, run.call, run.claim)\n    if (answer.happened === null) {",
      },
    ],
    shownBy: ["kill", "drain", "tool-slow"],
  },
  {
    name: "dispatched-without-allow",
    wrong: "A call that has to be allowed is dispatched without waiting for anyone (E9).",
    patches: [
      {
        folder: "services/tool-router/src",
        find: 'if (waitsFor === "client" || waitsFor === "approval") return hold(',
        replace: 'if (waitsFor === "client") return hold(',
      },
      {
        folder: "services/tool-router/src",
        find: 'if (tool.permission === "always_ask" && call.approval === undefined) return hold(',
        replace: "if (view.now < 0) return hold(",
      },
      {
        folder: "schemas/session/src",
        find: '(tool?.permission === "always_ask" && call.approval === undefined)',
        replace: "false",
      },
    ],
  },
  {
    name: "allow-for-any-call",
    wrong: "An allow counts for whichever call waits for one (E5).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if (session.phase !== "awaiting-tools") return accept(heardIt)\n  const index = session.calls.findIndex((call) => call.toolUseId === event.toolUseId)',
        replace:
          'if (session.phase !== "awaiting-tools") return accept(heardIt)\n  const index = session.calls.findIndex((call) => event.type === "approval.given" ? awaits(session, call) === "approval" : call.toolUseId === event.toolUseId)',
      },
      {
        folder: "schemas/session/src",
        find: 'if (waitsFor === "client" || event.argumentsHash !== sha256Hex(call.input)) return null',
        replace: 'if (waitsFor === "client") return null',
      },
    ],
  },
  {
    name: "allow-kept-after-run",
    wrong: "An allow is kept after a run that may have had an effect.",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'approval !== undefined && event.effect === "none" ? { approval }',
        replace: "approval !== undefined ? { approval }",
      },
    ],
    shownBy: ["tool-slow", "tool-break", "tool-hang"],
  },
  {
    name: "arguments-not-compared",
    wrong: "Nobody asks whether an allow is for these arguments.",
    patches: [
      {
        folder: "schemas/session/src",
        find: "if ((asked.argumentsHash ?? null) !== null && asked.argumentsHash !== sha256Hex(call.input))",
        replace: "if (false)",
      },
      {
        folder: "schemas/session/src",
        find: 'if (waitsFor === "client" || event.argumentsHash !== sha256Hex(call.input)) return null',
        replace: 'if (waitsFor === "client") return null',
      },
    ],
  },
  {
    name: "denial-runs",
    wrong: "A call that was denied is run.",
    patches: [
      { folder: "schemas/session/src", find: 'if (event.decision === "allow") return {', replace: "if (event.decision !== null) return {" },
    ],
  },
  {
    name: "second-result-replaces",
    wrong: "A client's second result takes the place of its first (B14).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "  const waitsFor = awaits(session, call)\n  // E5: of another hold",
        replace:
          '  if (event.type === "result.received" && call.state.is === "done") return { ...call, state: { is: "done", content: event.content, isError: event.isError } }\n  const waitsFor = awaits(session, call)\n  // E5: of another hold',
      },
    ],
  },
  {
    name: "result-for-approval",
    wrong: "A client's result is taken for a call that waits for an approval (B14).",
    patches: [
      { folder: "schemas/session/src", find: 'return waitsFor === "approval" ? null : {', replace: "return {" },
      {
        folder: "schemas/session/src",
        find: 'if (call.state.is === "done" || waitsFor === "client" || waitsFor === "outcome_unknown") return null',
        replace: 'if (call.state.is === "done" || waitsFor !== null) return null',
      },
    ],
  },
  {
    name: "answer-to-hold-under-way",
    wrong: "An answer names a hold that may never come to stand, and is lost with it (rule 19, E5).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'return call.state.is === "held" && call.attempt > 0 ? call',
        replace: 'return call.state.is === "held" ? call',
      },
    ],
    shownBy: ["append-lost", "append-unanswered", "append-late"],
  },
  {
    name: "requires-action-unsaid",
    wrong: "Nobody is told that a session waits.",
    patches: [
      {
        folder: "services/llm-invoker/src",
        find: 'return allHeld(session.calls) && session.waiting !== "told" ? [idle(session, "requires_action", null)] : []',
        replace: "return []",
      },
    ],
  },
  {
    name: "requires-action-too-soon",
    wrong: "It is said that a session waits while some of its calls still run.",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'return calls.every((call) => call.state.is === "done" || call.state.is === "held") && !allDone(calls)',
        replace: 'return calls.some((call) => call.state.is === "held")',
      },
    ],
  },
  {
    name: "hold-outlives-interrupt",
    wrong: "An interrupt leaves a session that waits as it is, so that a late allow runs the call (E7).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if (session.phase === "idle") return { ...stamped(session, at), commands }',
        replace:
          'if (session.phase === "idle" || (session.phase === "awaiting-tools" && session.waiting !== undefined)) return { ...stamped(session, at), commands }',
      },
    ],
  },
  {
    name: "deletion-does-not-win",
    wrong: "An answer of the model that comes after the deletion counts (rule 17).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'return event.type === "command.rejected" ? accept(session) : refuse(session, event)',
        replace: 'return ["command.rejected", "model.responded"].includes(event.type) ? accept(session) : refuse(session, event)',
      },
    ],
    shownBy: ["model-slow"],
  },
  {
    name: "deleted-starts-again",
    wrong: "A deleted session is started again by whoever asks for it (rule 17).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'return event.type === "command.rejected" ? accept(session) : refuse(session, event)',
        replace:
          'return event.type === "command.rejected" ? accept(session) : event.type === "session.started" ? fromAbsent(absent, event, at) : refuse(session, event)',
      },
      {
        folder: "schemas/session/src",
        find: 'return session.phase === "absent"\n      ? null',
        replace: 'return session.phase === "absent" || session.phase === "deleted"\n      ? null',
      },
    ],
  },
  {
    name: "erased-when-ended",
    wrong: "A session that is archived or has ended is erased though nobody has deleted it (rule 17).",
    patches: [
      {
        folder: "services/eraser/src",
        find: 'if (settled.phase === "deleted") {',
        replace: 'if (settled.phase === "deleted" || settled.phase === "ended") {',
      },
    ],
  },
  {
    name: "tombstone-before-deletion",
    wrong: "What has lain for long enough is erased before its session.deleted stands (rule 17).",
    patches: [
      {
        folder: "services/eraser/src",
        find: 'work: { do: "delete", sessionId, commandId, unchangedSince: settled.changedAt }',
        replace: 'work: { do: "erase", sessionId, from: 0 }',
      },
    ],
  },
  {
    name: "neighbours-erased",
    wrong: "What stands between the records of a deleted session is erased with it (rule 17).",
    patches: [
      {
        folder: "services/eraser/src",
        find: "  if (one === undefined || record.offset < one.from) return undefined",
        replace: "  if (one === undefined) return [...bySession.values()][0]",
      },
    ],
  },
  {
    name: "deletion-erased-too",
    wrong: "The session.deleted is erased with everything else (rule 17).",
    patches: [
      {
        folder: "services/eraser/src",
        find: 'return decoded.ok && decoded.said.type === "session.deleted" ? undefined : one',
        replace: "return one",
      },
    ],
  },
  {
    name: "late-copies-kept",
    wrong: "What comes after the deletion is not erased (rule 17).",
    patches: [
      {
        folder: "services/runtime/src",
        find: 'at.timestamp, event.type === "session.deleted")',
        replace: 'at.timestamp, event.type === "session.deleted" || this.sessions.get(event.sessionId).phase === "deleted")',
      },
    ],
  },
  {
    name: "unreadable-kept",
    wrong: "What nobody can read of a deleted session is not erased (rule 17).",
    patches: [
      {
        folder: "services/runtime/src",
        find: 'if (backend === null && session !== "") {',
        replace: 'if (backend !== null && session !== "") {',
      },
    ],
    shownBy: ["poison"],
  },
  {
    name: "erasure-believed-done",
    wrong: "An erasure that was cut off is taken for done (rule 17).",
    patches: [
      {
        folder: "services/eraser/src",
        find: "    const from = Math.min(",
        replace: "    for (const { erasing } of wanted) erasing.erased(end)\n    const from = Math.min(",
      },
    ],
    shownBy: ["read-failed"],
  },
  {
    name: "erased-again",
    wrong:
      "Whoever takes a partition over erases anew what was erased before it came, so that the log grows with every death (rule 17, P9).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "if (session !== undefined && erases !== undefined &&",
        replace: "if (session === erases &&",
      },
    ],
  },
  {
    name: "erased-to-its-tombstone",
    wrong: "Who goes on with an erasure takes the place of its newest tombstone for the place of what that erases (rule 17).",
    patches: [
      {
        folder: "services/runtime/src",
        find: "this.tombstoned(session, Number(erases), offset)",
        replace: "this.tombstoned(session, offset, offset)",
      },
    ],
    shownBy: ["kill", "read-failed"],
  },
  {
    name: "newest-erased-first",
    wrong: "Tombstones do not follow the order of what they erase, so that the newest does not tell how far they have come (rule 17).",
    patches: [
      {
        folder: "services/eraser/src",
        find: "for await (const records of log.replay(topics.sessions, partition, from, end, { bare: true })) {",
        replace:
          "const stretches = await Array.fromAsync(log.replay(topics.sessions, partition, from, end, { bare: true }))\n    for (const records of stretches.reverse()) {",
      },
    ],
    shownBy: ["kill", "append-lost", "read-failed", "outage"],
  },
  {
    name: "closed-while-running",
    wrong: "A session that runs is archived and deleted (B16).",
    patches: [
      { folder: "schemas/session/src", find: "return running\n        ? {", replace: "return session.sessionId === null\n        ? {" },
    ],
  },
  {
    name: "deleted-though-used",
    wrong: "A session is deleted for its age though it was used after somebody looked at it (B16).",
    patches: [
      {
        folder: "schemas/session/src",
        find: "session.changedAt > (asked.unchangedSince ?? Number.POSITIVE_INFINITY)",
        replace: "session.changedAt < 0",
      },
    ],
    shownBy: ["slow-topic", "append-late", "zombie"],
  },
  {
    name: "tools-change-while-running",
    wrong: "A session takes new tools in the middle of a turn.",
    patches: [
      {
        folder: "schemas/session/src",
        find: '(asked.agent ?? null) !== null && (session.phase !== "idle" || running)',
        replace: "session.sessionId === null",
      },
      {
        folder: "schemas/session/src",
        find: 'if (event.tools === null || session.phase !== "idle" || session.wake) return accept(next)',
        replace: "if (event.tools === null) return accept(next)",
      },
    ],
  },
  {
    name: "blob-after-record",
    wrong: "A record is appended while the blob that it names is still being put (P2).",
    patches: [
      {
        folder: "services/log/src/blobs",
        find: "const sha256 = await this.#asks.run(() => this.blobs.put(session, bytes))",
        replace:
          "const sha256 = sha256Of(bytes)\n            void this.#asks.run(() => this.blobs.put(session, bytes)).catch(() => undefined)",
      },
      {
        folder: "services/log/src/blobs",
        find: 'import { BlobDamagedError, BlobMissingError, type Blobs, folderOf } from "./blobs.ts"',
        replace: 'import { BlobDamagedError, BlobMissingError, type Blobs, folderOf, sha256Of } from "./blobs.ts"',
      },
    ],
  },
  {
    name: "overtakes-a-blob",
    wrong: "What is appended later does not wait for what waits for its blob (rule 15, G2).",
    patches: [
      { folder: "services/log/src/blobs", find: "if (large === null && lane === undefined) return", replace: "if (large === null) return" },
    ],
    shownBy: ["blob-slow", "blob-away"],
  },
  {
    name: "unread-goes-on",
    wrong: "A session of which a record cannot be read whole goes on without it.",
    patches: [
      {
        folder: "services/runtime/src",
        find: 'const heldUp = owned.unread.has(sessionId) ? this.#heldUp(owned, sessionId) : "nobody"',
        replace: 'const heldUp = owned.unread.has("") ? this.#heldUp(owned, sessionId) : "nobody"',
      },
    ],
    shownBy: ["blob-spoilt", "kill"],
  },
  {
    name: "unread-for-good",
    wrong: "A session whose blob is back goes on as if the record had never been.",
    patches: [
      {
        folder: "services/runtime/src",
        find: 'if (session.phase !== "absent") owned.sessions.replace(sessionId, session, records)',
        replace: "",
      },
    ],
    shownBy: ["blob-spoilt", "kill"],
  },
  {
    name: "collected-young",
    wrong: "Blobs are collected however young they are: also those of a record that is on its way.",
    patches: [
      { folder: "services/eraser/src", find: "if (blob.ageMs <= graceMs) continue", replace: "" },
      { folder: "services/eraser/src", find: "log.blobs?.collect(blob, graceMs)", replace: "log.blobs?.collect(blob, -1)" },
    ],
    shownBy: ["append-lost"],
  },
  {
    name: "named-is-collected",
    wrong: "Blobs are collected though records of tools or sessions name them.",
    patches: [{ folder: "services/eraser/src", find: "if (keys.length > 0) named.set(", replace: "if (keys.length < 0) named.set(" }],
  },
  {
    name: "blobs-outlive-their-session",
    wrong: "The blobs of a deleted session stay (I28).",
    patches: [
      { folder: "services/eraser/src", find: "for (const { sessionId } of wanted) await log.blobs?.removeSession(sessionId)", replace: "" },
    ],
  },
  {
    name: "parked-request-left-open",
    wrong: "A request that was open when its session was parked is open again when it is resumed, though its answer was late (I22).",
    patches: [{ folder: "schemas/session/src", find: "before: leftOff(session, at)", replace: "before: session" }],
    shownBy: ["blob-away", "blob-spoilt"],
  },
  {
    name: "unread-is-judged",
    wrong: "A session of which something cannot be read is archived for what it looks like (B16).",
    patches: [{ folder: "services/intake/src", find: "refusalWhileUnread(view, sessionId, command.type) ??\n    ", replace: "" }],
    shownBy: ["kill", "blob-spoilt"],
  },
  {
    name: "claim-on-a-lost-dispatch",
    wrong: "A claim that was chained on a dispatch stands though that is lost (I12).",
    patches: [
      {
        folder: "schemas/session/src",
        find: " && (event.causedBy === null || event.causedBy === call.dispatch.eventId)",
        replace: "",
      },
    ],
    shownBy: ["append-lost", "append-partial"],
  },
  {
    name: "span-left-open",
    wrong: "Who looks at a session whose request was interrupted or taken over is not told that it is over (I22).",
    patches: [
      {
        folder: "schemas/session/src",
        find: 'if (before.phase !== "awaiting-model" || before.request.state.is !== "open") return\n    this.#spanEnd(before.request.claim, true, null)',
        replace: "if (before !== null) return",
      },
    ],
  },
]

export function mutantNamed(name: string): Mutant {
  const mutant = mutants.find((one) => one.name === name)
  if (mutant === undefined) throw new Error(`There is no mutant ${name}. There are: ${mutants.map((one) => one.name).join(", ")}.`)
  return mutant
}

export interface Caught {
  /** The invariants that named it; none: it got away. */
  readonly caughtBy: readonly string[]
  readonly runs: number
  readonly firstSeed: number | null
}

/** Runs worlds with this mutant in a process of its own until it is caught or the time is over. */
export async function catchMutant(name: string, seconds: number): Promise<Caught> {
  const main = fileURLToPath(new URL("main.ts", import.meta.url))
  const child = spawn(process.execPath, [main, "--mutant", name, "--seconds", String(seconds)], { stdio: ["ignore", "pipe", "inherit"] })
  let said = ""
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString("utf8")
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject)
    child.once("close", resolve)
  })
  if (code !== 0) throw new Error(`The process with the mutant ${name} ended with ${code}; it says why above.`)
  return JSON.parse(said) as Caught
}

/** Says of every mutant what catches it; true where none got away. */
export async function catchAll(options: {
  readonly wanted?: readonly string[]
  readonly secondsEach: number
  readonly say: (line: string) => void
}): Promise<boolean> {
  const { wanted, secondsEach, say } = options
  const chosen = mutants.filter(({ name }) => wanted === undefined || wanted.includes(name))
  const escaped: string[] = []
  for (const { name, wrong } of chosen) {
    const startedMs = performance.now()
    const { caughtBy, runs, firstSeed } = await catchMutant(name, secondsEach)
    if (caughtBy.length === 0) escaped.push(name)
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    const how = caughtBy.length === 0 ? "GOT AWAY" : `caught by ${caughtBy.join(", ")}${firstSeed === null ? "" : ` at seed ${firstSeed}`}`
    say(`${name.padEnd(30)} ${how} (${runs} worlds, ${seconds} s). ${wrong}`)
  }
  say(
    escaped.length === 0
      ? `All ${chosen.length} mutants are caught.`
      : `${escaped.length} of ${chosen.length} got away: ${escaped.join(", ")}.`,
  )
  return escaped.length === 0
}
