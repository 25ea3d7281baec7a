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
    ],
  },
  {
    id: "P2",
    promise: "Every transition is in the log before it takes effect.",
    provedBy: [
      { file: embeddedSession, title: "runs the long session from one command to its end" },
      { file: "services/llm-invoker/test/decide.test.ts", title: "never happens on a claim that is not read back" },
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
]
