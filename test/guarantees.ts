/** A promise of the README, and the tests that prove it: a file, and words of the title of a test in it. */
export interface Guarantee {
  readonly id: string
  readonly promise: string
  readonly provedBy: readonly { readonly file: string; readonly title: string }[]
}

const kafkaSession = "test/e2e/kafka-session.test.ts"
const embeddedSession = "test/e2e/embedded-session.test.ts"

export const guarantees: readonly Guarantee[] = [
  {
    id: "P1",
    promise: "An acknowledged command is never lost.",
    provedBy: [
      { file: kafkaSession, title: "a worker is killed with calls in flight, and every session ends" },
      { file: "test/e2e/bad-input.test.ts", title: "a command that cannot be done is rejected where its sender finds it by its id" },
      {
        file: "services/runtime/test/answering.test.ts",
        title: "is refused by the successor of a process that died before it could say so",
      },
    ],
  },
  {
    id: "P2",
    promise: "Every transition is in the log before it takes effect.",
    provedBy: [
      { file: embeddedSession, title: "runs the long session from one command to its end" },
      { file: "services/llm-invoker/test/decide.test.ts", title: "never happens on a claim that is not read back" },
      {
        file: "services/log/test/with-blobs.test.ts",
        title: "keeps its place: what is appended to the partition later does not overtake it",
      },
    ],
  },
  {
    id: "P3",
    promise: "A recorded model response or tool result is never computed again.",
    provedBy: [
      { file: embeddedSession, title: "goes on by itself after kill -9" },
      { file: kafkaSession, title: "an invoker is killed with calls in flight, then a router and an intake" },
    ],
  },
  {
    id: "P4",
    promise: "A call in flight when its process dies is handled by its declared class; an `unsafe` one is never run twice.",
    provedBy: [
      { file: "services/worker-kit/test/worker.test.ts", title: "a worker dies in the middle of a call" },
      { file: kafkaSession, title: "a worker is killed with calls in flight" },
    ],
  },
  {
    id: "P5",
    promise: "Same log, same state: before and after compaction, in halves or whole.",
    provedBy: [
      { file: "schemas/session/test/fold.test.ts", title: "after a compaction that leaves holes" },
      { file: "schemas/session/test/fold.test.ts", title: "in two halves is the whole" },
    ],
  },
  {
    id: "P6",
    promise: "The exact bytes of every model request can be rebuilt and proved by their hash.",
    provedBy: [
      { file: embeddedSession, title: "shows and rebuilds it" },
      { file: "test/e2e/exit-codes.test.ts", title: "6 for a log in which a byte was changed" },
    ],
  },
  {
    id: "P7",
    promise: "Instances need no coordination beyond Kafka's group membership.",
    provedBy: [
      { file: "test/e2e/kafka-members.test.ts", title: "the one that is left takes all over when the other is killed" },
      { file: kafkaSession, title: "a second instance of every service takes partitions" },
    ],
  },
  {
    id: "P8",
    promise: "One bad record parks one session at most, never a partition.",
    provedBy: [{ file: "test/e2e/bad-input.test.ts", title: "a session whose log breaks a rule is parked, and its neighbours go on" }],
  },
  {
    id: "P9",
    promise: "The log grows with what is new: no event repeats the conversation.",
    provedBy: [{ file: "test/guarantees.test.ts", title: "a turn's bytes do not grow with the turns before it" }],
  },
  {
    id: "P10",
    promise: "A tool is a consumer: JSON in, JSON out, no SDK of ours needed.",
    provedBy: [{ file: "test/e2e/python-worker.test.ts", title: "a plain Python program serves a backend" }],
  },
  {
    id: "P11",
    promise:
      "A conversation may outgrow the model's window: a summary that is recorded takes its place, and what was before stays readable.",
    provedBy: [
      { file: "test/e2e/compaction.test.ts", title: "goes on for as long as anyone likes, and no request is refused" },
      { file: "test/e2e/compaction.test.ts", title: "survives a result that alone is larger than the window" },
    ],
  },
  {
    id: "P12",
    promise:
      "Recovery and memory do not grow with the history: a partition is taken over from snapshots, and what rests is not kept in memory.",
    provedBy: [
      { file: "test/e2e/snapshots.test.ts", title: "has forgotten what was said, recalls it for the next request" },
      { file: "services/runtime/test/kept-sessions.test.ts", title: "take no more memory than they may, what runs aside" },
    ],
  },
]

/** Where Reins answers otherwise than the hosted Managed Agents API, and the test that holds it to that. */
export interface Difference {
  readonly id: string
  readonly hosted: string
  readonly here: string
  readonly provedBy: readonly { readonly file: string; readonly title: string }[]
}

const apiEvents = "schemas/session/test/api-events.test.ts"

export const differences: readonly Difference[] = [
  {
    id: "D1",
    hosted: "Agents may use agent_toolset_20260401, remote MCP servers, skills, other agents and the policy auto.",
    here: "They are refused with a sentence (400). A toolset's MCP server is a backend of this installation: reins:<backend>.",
    provedBy: [{ file: "test/sdk/story-agents.ts", title: "what an agent may not be is refused with a sentence" }],
  },
  {
    id: "D2",
    hosted: "Sessions may have resources, vaults and a budget.",
    here: "They are refused (400). A session's own limits show as budget_reached, with a session.error that says which.",
    provedBy: [{ file: "test/sdk/story-sessions.ts", title: "what a session may not begin with is refused, and leaves no session behind" }],
  },
  {
    id: "D3",
    hosted: "A stream cannot be resumed.",
    here: "Every frame has its place in the log as its id, and Last-Event-ID goes on behind it.",
    provedBy: [
      {
        file: "test/sdk/story-wire.ts",
        title: "every frame names its event and its place, and a stream goes on behind the last place seen",
      },
    ],
  },
  {
    id: "D4",
    hosted: "A create or a send that is tried again after a lost response is done twice.",
    here: "The SDK's own retries are recognised by credential and body for two minutes, and Idempotency-Key is taken. Without a key, the same words said again within that time whose first try never arrived pass for a retry.",
    provedBy: [
      { file: "test/sdk/story-wire.ts", title: "a retry of a request whose answer was lost has no second effect; a repetition has" },
    ],
  },
  {
    id: "D5",
    hosted: "When retries are exhausted, messages that wait are dropped.",
    here: "They are kept and begin the next turn; the session says idle (retries_exhausted), then running.",
    provedBy: [{ file: apiEvents, title: "keep what waits when retries are exhausted, and goes on with it" }],
  },
  {
    id: "D6",
    hosted: "A session that cannot go on is terminated.",
    here: "It is parked for a person: it shows as idle with retries_exhausted and a session.error, and can be resumed (reins sessions resume).",
    provedBy: [{ file: apiEvents, title: "show a parked session as idle with an error" }],
  },
  {
    id: "D7",
    hosted: "The status on the resource may lag behind the idle event.",
    here: "Who hears idle can archive or delete at once: the read model is written before the event is told, and reads wait for the log's end.",
    provedBy: [
      { file: "test/sdk/story-turns.ts", title: "a turn is told on the stream in its order, and the resource agrees with its last word" },
    ],
  },
  {
    id: "D8",
    hosted: "Cache writes are counted by their lifetime.",
    here: "They are counted as five-minute writes, since the log does not tell them apart.",
    provedBy: [{ file: apiEvents, title: "count tokens over all turns, cache writes as those of five minutes" }],
  },
]
