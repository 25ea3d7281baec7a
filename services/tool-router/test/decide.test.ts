import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type EffectClass, type SessionEventOf, toolsTopic } from "@reins/events"
import type { Draft, Intent } from "@reins/runtime"
import { type Sight, saidIn, viewOf } from "@reins/runtime/testing"
import { allDone, allHeld, holdOf, sha256Hex } from "@reins/session"
import { agent, fact, given, type Story, tool, toolFact, toolUse } from "@reins/session/testing"
import { defaultRouterLimits } from "../src/config.ts"
import { decide } from "../src/decide.ts"

const limits = defaultRouterLimits
const addSchema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
const tools = [
  tool("add", { inputSchema: addSchema, settings: '{"precision":2}' }),
  tool("look", { effect: "idempotent", encoding: "json", backend: "python" }),
  tool("book", { effect: "keyed", backend: "http" }),
  tool("ask", { effect: "queryable", backend: "http" }),
  tool("refund", { effect: "unsafe", backend: "http", sideEffects: "moves money back" }),
]
const toolOf: Readonly<Record<EffectClass, string>> = { pure: "add", idempotent: "look", keyed: "book", queryable: "ask", unsafe: "refund" }

function router(sight: Sight = {}): (story: Story) => readonly Intent[] {
  return (story) => decide(viewOf(story, sight), limits)
}

function quiet(intents: readonly Intent[]): void {
  assert.deepEqual(intents, [])
}

/** Exactly these facts, in this order. */
function says(...facts: readonly object[]): (intents: readonly Intent[]) => void {
  return (intents) => {
    assert.equal(said(intents).length, facts.length, JSON.stringify(intents))
    assert.partialDeepStrictEqual(said(intents), facts)
  }
}

function said(intents: readonly Intent[]): readonly Draft["event"][] {
  return saidIn(intents)
}

/** Whether the fold takes what the router says. */
function assertAccepted(story: Story, intents: readonly Intent[]): void {
  for (const intent of intents) {
    assert.ok(intent.do === "append" && intent.on === "sessions")
    const envelope = {
      eventId: `said_${story.records.length}`,
      sessionId: story.sessionId,
      tenant: "default",
      at: 0,
      by: "tool-router@test",
      traceparent: null,
    }
    story.tell({ ...intent.event, ...envelope, causedBy: intent.event.causedBy ?? null })
    assert.equal(story.verdict, "accepted", intent.event.type)
  }
}

/** A session whose model asked for these tools, as toolu_0, toolu_1 … */
function called(...uses: readonly (readonly [string, unknown])[]): (story: Story) => Story {
  return (story) =>
    story
      .started(agent(tools))
      .requested()
      .responded(uses.map(([name, input], n) => toolUse(`toolu_${n}`, name, input)))
}

const one = called(["add", { n: 1 }])

describe("whether there is something to route", () => {
  it("there is not, where no call is open", () => {
    given(() => undefined)
      .when(router())
      .then(quiet)
    given((story) => story.started(agent(tools)))
      .when(router())
      .then(quiet)
    given((story) => story.started(agent(tools)).requested())
      .when(router())
      .then(quiet)
    given((story) => one(story).dispatched("toolu_0").completed("toolu_0"))
      .when(router())
      .then(quiet)
    given((story) => one(story).interrupted())
      .when(router())
      .then(quiet)
    given((story) => one(story).ended())
      .when(router())
      .then(quiet)
    given((story) => one(story).parked())
      .when(router())
      .then(quiet)
  })

  it("there is not, in a response that was cut off", () => {
    given((story) =>
      story
        .started(agent(tools))
        .requested()
        .responded([toolUse("toolu_0", "add", {})], { stopReason: "max_tokens" }),
    )
      .when(router())
      .then(quiet)
  })

  it("a session that a record broke is parked", () => {
    given((story) => story.started(agent(tools)).requested().responded([], { content: "no JSON" }))
      .when(router())
      .then((intents, story) => {
        const { session } = story
        assert.ok(session.phase === "awaiting-model")
        says({ type: "session.parked", code: "unreadable_response", causedBy: session.request.claim })(intents)
        assertAccepted(story, intents)
        quiet(router()(story))
      })
    given((story) => story.started(agent(tools, { params: "no JSON" })))
      .when(router())
      .then(says({ type: "session.parked", code: "unusable_start" }))
  })
})

describe("a call that the model asked for", () => {
  it("is dispatched: what, where, of which class, until when, under which key", () => {
    given(called(["refund", { id: "17" }]))
      .when(router())
      .then((intents, story) => {
        says({
          type: "tool-call.dispatched",
          toolUseId: "toolu_0",
          tool: "refund",
          attempt: 1,
          backend: "http",
          effect: "unsafe",
          deadlineMs: 5000,
          idempotencyKey: `${story.sessionId}/toolu_0`,
          argumentsHash: sha256Hex('{"id":"17"}'),
          sideEffects: "moves money back",
          causedBy: story.known.response,
        })(intents)
        assertAccepted(story, intents)
      })
  })

  it("is dispatched in parallel with the others of its response", () => {
    given(called(["add", { n: 1 }], ["refund", {}], ["look", {}]))
      .when(router())
      .then((intents, story) => {
        assert.deepEqual(
          said(intents).map((event) => "toolUseId" in event && event.toolUseId),
          ["toolu_0", "toolu_1", "toolu_2"],
        )
        assertAccepted(story, intents)
      })
  })

  it("is refused, in words, where there is no such tool", () => {
    given(called(["subtract", {}]))
      .when(router())
      .then((intents, story) => {
        says({
          type: "tool-call.refused",
          code: "unknown_tool",
          message: "There is no tool subtract. There are: add, look, book, ask, refund.",
        })(intents)
        assertAccepted(story, intents)
        assert.ok(allDone(story.known.calls))
      })
    given((story) =>
      story
        .started(agent([]))
        .requested()
        .responded([toolUse("toolu_0", "add")]),
    )
      .when(router())
      .then(says({ type: "tool-call.refused", message: "There is no tool add. This agent has no tools." }))
  })

  it("is refused, with a pointer to what is wrong, where its arguments do not fit", () => {
    given(called(["add", { n: "1" }], ["add", {}], ["add", { n: 1, m: 2 }]))
      .when(router())
      .then((intents) => {
        says(
          {
            type: "tool-call.refused",
            code: "invalid_arguments",
            message: "The arguments of add do not fit its schema: /n must be integer.",
          },
          { message: "The arguments of add do not fit its schema: / must have required property 'n'." },
          { message: "The arguments of add do not fit its schema: / must NOT have additional properties: m." },
        )(intents)
      })
  })

  it("is refused where it must not run twice and its workers do not claim", () => {
    for (const effect of ["pure", "idempotent", "keyed", "queryable", "unsafe"] as const) {
      given((story) =>
        story
          .started(agent([tool("it", { effect, claims: false })]))
          .requested()
          .responded([toolUse("toolu_0", "it")]),
      )
        .when(router())
        .then(
          effect === "queryable" || effect === "unsafe"
            ? says({ type: "tool-call.refused", code: "unauthorized" })
            : says({ type: "tool-call.dispatched" }),
        )
    }
  })

  it("is refused where the session has made its calls; refused calls and further attempts are not charged", () => {
    const allowed = { turns: 50, toolCalls: 2, outputTokens: 1_000_000, wallClockMs: 600_000 }
    given((story) =>
      story
        .started(agent(tools, { limits: allowed }))
        .requested()
        .responded([toolUse("a", "add", { n: 1 }), toolUse("b", "add", {}), toolUse("c", "add", { n: 2 }), toolUse("d", "add", { n: 3 })]),
    )
      .when(router())
      .then((intents, story) => {
        says(
          { type: "tool-call.dispatched", toolUseId: "a" },
          { type: "tool-call.refused", toolUseId: "b", code: "invalid_arguments" },
          { type: "tool-call.dispatched", toolUseId: "c" },
          {
            type: "tool-call.refused",
            toolUseId: "d",
            code: "quota_exceeded",
            message: "The session has made its 2 tool calls. add was not run.",
          },
        )(intents)
        assertAccepted(story, intents)
        assert.ok(story.known.limitReached)
        story.failed("a", { retryAfterMs: 0 })
        says({ type: "tool-call.dispatched", toolUseId: "a", attempt: 2 })(
          router()(story).filter((intent) => intent.do === "append" && intent.on === "sessions"),
        )
      })
  })
})

describe("a dispatch", () => {
  it("goes to its backend only once the decision is read back", () => {
    given(one)
      .when((story) => {
        const settled = story.session
        story.dispatched("toolu_0")
        return router({ settled })(story)
      })
      .then(quiet)
  })

  it("is built from the accepted record, in the encoding of its backend, and goes once", () => {
    given((story) => one(story).dispatched("toolu_0"))
      .when(router())
      .then((intents, story) => {
        const { state } = story.call("toolu_0")
        assert.ok(state.is === "dispatched")
        assert.partialDeepStrictEqual(intents, [
          {
            do: "append",
            on: "tools",
            backend: "function",
            encoding: "avro",
            event: {
              type: "tool-call.dispatched",
              toolUseId: "toolu_0",
              tool: "add",
              attempt: 1,
              effect: "pure",
              idempotencyKey: `${story.sessionId}/toolu_0`,
              arguments: '{"n":1}',
              deadlineAt: state.deadlineAt,
              sessionOffset: state.offset,
              settings: '{"precision":2}',
              causedBy: state.eventId,
            },
          },
          { do: "wake", at: state.deadlineAt + 1 },
        ])
        story.sent("toolu_0")
        assert.deepEqual(router()(story), [{ do: "wake", at: state.deadlineAt + 1 }])
      })
    given((story) => called(["look", {}])(story).dispatched("toolu_0"))
      .when(router())
      .then((intents) => assert.partialDeepStrictEqual(intents[0], { backend: "python", encoding: "json" }))
  })

  it("is not sent after its deadline", () => {
    for (const [effect, name] of Object.entries(toolOf)) {
      given((story) => called([name, name === "add" ? { n: 1 } : {}])(story).dispatched("toolu_0"))
        .when((story) => router({ now: story.now + 5001 })(story))
        .then((intents) => assert.ok(!said(intents).some(({ type }) => type === "tool-call.dispatched"), effect))
    }
  })

  it("of the next attempt goes out although the topic knows the one before", () => {
    given((story) =>
      one(story).dispatched("toolu_0").sent("toolu_0").finished("toolu_0").failed("toolu_0", { retryAfterMs: 0 }).dispatched("toolu_0"),
    )
      .when(router())
      .then((intents) => assert.partialDeepStrictEqual(said(intents), [{ type: "tool-call.dispatched", attempt: 2 }]))
  })
})

const out = (name: string) => (story: Story) =>
  called([name, name === "add" ? { n: 1 } : {}])(story)
    .dispatched("toolu_0")
    .sent("toolu_0")

describe("what a worker says of a call", () => {
  it("that it is done closes it with the result as the model will read it", () => {
    given((story) => out("add")(story).finished("toolu_0", { content: '"17"', isError: true }))
      .when(router())
      .then((intents, story) => {
        says({ type: "tool-call.completed", toolUseId: "toolu_0", attempt: 1, content: '"17"', isError: true })(intents)
        assertAccepted(story, intents)
        quiet(router()(story))
      })
  })

  it("counts also after the deadline, as long as the call is open", () => {
    given((story) => out("refund")(story).claimed("toolu_0").finished("toolu_0"))
      .when((story) => router({ now: story.now + 60_000 })(story))
      .then(says({ type: "tool-call.completed" }))
  })

  it("is checked: what is no content for a model, or too much of it, fails the call, which is not run again", () => {
    for (const [content, kind] of [
      [null, "malformed_output"],
      ["no JSON", "malformed_output"],
      ["17", "malformed_output"],
      ['{"a":1}', "malformed_output"],
      ["[1]", "malformed_output"],
      [JSON.stringify("x".repeat(limits.resultMax)), "output_too_large"],
    ] as const) {
      given((story) => out("add")(story).finished("toolu_0", { content }))
        .when(router())
        .then((intents, story) => {
          says({ type: "tool-call.failed", kind, effect: "done", retryAfterMs: null })(intents)
          assertAccepted(story, intents)
          assert.ok(allDone(story.known.calls))
        })
    }
    given((story) => out("add")(story).finished("toolu_0", { content: '[{"type":"image","source":{}}]' }))
      .when(router())
      .then(says({ type: "tool-call.completed", content: '[{"type":"image","source":{}}]' }))
  })

  it("that nobody knows is told in its words, and never run again", () => {
    given((story) =>
      out("refund")(story).claimed("toolu_0").finished("toolu_0", { outcome: "unknown", content: null, message: "The worker died." }),
    )
      .when(router())
      .then((intents, story) => {
        says({ type: "tool-call.outcome-unknown", message: "The worker died." })(intents)
        assertAccepted(story, intents)
        quiet(router()(story))
      })
  })

  const failing = { outcome: "failed", content: null, kind: "unavailable", message: "503", retryAfterMs: 400 } as const

  it("that it failed is tried again by class: what must not run twice only where nothing happened", () => {
    for (const [effect, name] of Object.entries(toolOf)) {
      for (const happened of ["none", "maybe", "done"] as const) {
        const again = happened === "none" || (effect !== "unsafe" && effect !== "queryable")
        given((story) => {
          out(name)(story)
          if (effect !== "pure" && effect !== "idempotent") story.claimed("toolu_0")
          return story.finished("toolu_0", { ...failing, effect: happened })
        })
          .when(router())
          .then((intents, story) => {
            says({ type: "tool-call.failed", kind: "unavailable", message: "503", effect: happened, retryAfterMs: again ? 400 : null })(
              intents,
            )
            assertAccepted(story, intents)
            assert.equal(allDone(story.known.calls), !again, `${effect}, ${happened}`)
          })
      }
    }
  })

  it("that it failed and is not to be tried again is told to the model", () => {
    given((story) => out("add")(story).finished("toolu_0", { ...failing, effect: "none", retryAfterMs: null }))
      .when(router())
      .then(says({ type: "tool-call.failed", retryAfterMs: null }))
  })

  it("that it failed is tried again only so often; that it was given up, always", () => {
    const worn = (kind: string) => (story: Story) => {
      one(story)
      for (let n = 1; n < limits.failuresMax; n++) story.dispatched("toolu_0").failed("toolu_0", { retryAfterMs: 0 })
      return story
        .dispatched("toolu_0")
        .sent("toolu_0")
        .finished("toolu_0", { ...failing, effect: "none", kind })
    }
    given(worn("unavailable"))
      .when(router())
      .then(says({ type: "tool-call.failed", attempt: limits.failuresMax, retryAfterMs: null }))
    given(worn("given_up"))
      .when(router())
      .then(says({ type: "tool-call.failed", kind: "given_up", retryAfterMs: 400 }))
  })

  it("waits for its place in the log: the time of the next attempt counts from there", () => {
    given((story) => one(story).dispatched("toolu_0"))
      .when((story) => {
        const settled = story.session
        story.failed("toolu_0", { retryAfterMs: 400 })
        return router({ settled, now: story.now + 60_000 })(story)
      })
      .then(quiet)
  })

  it("is waited for before the next attempt begins", () => {
    given((story) => one(story).dispatched("toolu_0").failed("toolu_0", { retryAfterMs: 400 }))
      .when((story) => [router({ now: story.now + 399 })(story), router({ now: story.now + 400 })(story)] as const)
      .then(([before, at], story) => {
        assert.deepEqual(before, [{ do: "wake", at: story.now + 400 }])
        says({ type: "tool-call.dispatched", attempt: 2, causedBy: story.known.response })(at)
      })
  })

  it("of an attempt that is not the open one changes nothing", () => {
    given((story) => out("add")(story).timedOut("toolu_0", { retryAfterMs: 0 }).dispatched("toolu_0").finished("toolu_0", { attempt: 1 }))
      .when((story) => said(router()(story)))
      .then((facts) =>
        assert.deepEqual(
          facts.map(({ type }) => type),
          ["tool-call.dispatched"],
        ),
      )
  })
})

describe("a deadline", () => {
  const overdue = (story: Story): readonly Intent[] => {
    const { state } = story.call("toolu_0")
    assert.ok(state.is === "dispatched")
    return router({ now: state.deadlineAt + 1 })(story)
  }

  it("is the last moment, not the first after it", () => {
    given(out("add"))
      .when((story) => {
        const { state } = story.call("toolu_0")
        assert.ok(state.is === "dispatched")
        return router({ now: state.deadlineAt })(story)
      })
      .then((intents) => assert.deepEqual(said(intents), []))
  })

  it("of a class that may run again is a time-out, tried again after a while", () => {
    for (const effect of ["pure", "idempotent", "keyed"] as const) {
      given(out(toolOf[effect]))
        .when(overdue)
        .then((intents, story) => {
          says({ type: "tool-call.timed-out", effect: "maybe", retryAfterMs: 500 })(intents)
          assertAccepted(story, intents)
        })
    }
  })

  it("of a class that may run again is what counts, although the attempt was cancelled", () => {
    given((story) => out("add")(story).cancelled("toolu_0"))
      .when(router())
      .then((intents) => assert.deepEqual(said(intents), []))
  })

  it("of a class that must not run twice is cancelled first, and nothing is said to the model before the cancel is read back", () => {
    for (const effect of ["queryable", "unsafe"] as const) {
      for (const claimed of [false, true]) {
        given((story) => {
          out(toolOf[effect])(story)
          return claimed ? story.claimed("toolu_0") : story
        })
          .when(overdue)
          .then((intents, story) => {
            const { state } = story.call("toolu_0")
            assert.ok(state.is === "dispatched")
            assert.partialDeepStrictEqual(intents, [
              {
                do: "append",
                on: "tools",
                backend: "http",
                event: { type: "tool-call.cancelled", attempt: 1, reason: "deadline", deadlineAt: state.deadlineAt },
              },
            ])
            assert.equal(intents.length, 1)
          })
      }
    }
  })

  it("with the cancel before any claim: it was not run, and may be tried again", () => {
    given((story) => out("refund")(story).cancelled("toolu_0"))
      .when(overdue)
      .then((intents, story) => {
        says({ type: "tool-call.timed-out", effect: "none", retryAfterMs: 500 })(intents)
        assert.match(
          said(intents)
            .map((event) => ("message" in event ? event.message : ""))
            .join(""),
          /it was not run/,
        )
        assertAccepted(story, intents)
        story.wait(500)
        says({ type: "tool-call.dispatched", attempt: 2 })(router()(story))
      })
  })

  it("that passed longer ago than its topic remembers proves nothing by a cancel: nobody can say, and it is not run again", () => {
    const halfRetentionMs = Number(toolsTopic.config["retention.ms"]) / 2
    const longAfter = (ms: number) => (story: Story) => {
      const { state } = story.call("toolu_0")
      assert.ok(state.is === "dispatched")
      return router({ now: state.deadlineAt + ms })(story)
    }
    for (const effect of ["queryable", "unsafe"] as const) {
      const decided = (story: Story) => called([toolOf[effect], {}])(story).dispatched("toolu_0")
      // All that retention has left: nothing; the cancel; a late copy of the dispatch, without its claim.
      given(decided)
        .when(longAfter(halfRetentionMs))
        .then(says({ type: "tool-call.cancelled" }))
      for (const left of [
        (story: Story) =>
          decided(story).tellTools(
            "http",
            toolFact("tool-call.cancelled", { eventId: "evt_cancel", sessionId: story.sessionId, toolUseId: "toolu_0", attempt: 1 }),
          ),
        (story: Story) => decided(story).sent("toolu_0").cancelled("toolu_0"),
      ]) {
        given(left)
          .when(longAfter(halfRetentionMs))
          .then((intents, story) => {
            says({ type: "tool-call.outcome-unknown", toolUseId: "toolu_0", attempt: 1 })(intents)
            assertAccepted(story, intents)
            quiet(router()(story))
          })
        given(left)
          .when(longAfter(halfRetentionMs - 120_000))
          .then(says({ type: "tool-call.timed-out", effect: "none" }))
      }
      // A result that is still there is one, however old.
      given((story) => decided(story).sent("toolu_0").claimed("toolu_0").finished("toolu_0"))
        .when(longAfter(2 * halfRetentionMs))
        .then(says({ type: "tool-call.completed" }))
    }
  })

  it("with the cancel after a claim: nobody can say, and it is not run again", () => {
    given((story) => out("refund")(story).claimed("toolu_0").cancelled("toolu_0"))
      .when(overdue)
      .then((intents, story) => {
        says({ type: "tool-call.outcome-unknown", toolUseId: "toolu_0", attempt: 1 })(intents)
        assertAccepted(story, intents)
        quiet(router()(story))
      })
  })

  it("that passed before it was sent: a cancel ahead of the dispatch stands in for it", () => {
    given((story) => called(["refund", {}])(story).dispatched("toolu_0").sent("toolu_0").cancelled("toolu_0", { attempt: 1 }))
      .when(overdue)
      .then(says({ type: "tool-call.timed-out", effect: "none" }))
    given((story) => called(["refund", {}])(story).dispatched("toolu_0"))
      .when(overdue)
      .then(says({ type: "tool-call.cancelled" }))
  })

  it("passed too often is told to the model; the waits between grow", () => {
    const waits: unknown[] = []
    given((story) => {
      out("add")(story)
      for (let n = 1; n < limits.failuresMax; n++) {
        const [timedOut] = said(overdue(story))
        waits.push(timedOut !== undefined && "retryAfterMs" in timedOut && timedOut.retryAfterMs)
        story.timedOut("toolu_0", { retryAfterMs: 0 }).dispatched("toolu_0").sent("toolu_0")
      }
    })
      .when(overdue)
      .then((intents, story) => {
        assert.deepEqual(waits, [500, 1000])
        says({ type: "tool-call.timed-out", attempt: limits.failuresMax, retryAfterMs: null })(intents)
        assertAccepted(story, intents)
        assert.ok(allDone(story.known.calls))
      })
  })
})

describe("an open dispatch that the session has closed", () => {
  it("is cancelled on its topic, whatever closed it", () => {
    for (const close of [
      (story: Story) => story.interrupted(),
      (story: Story) => story.ended(),
      (story: Story) => story.timedOut("toolu_0", { retryAfterMs: null }),
    ]) {
      given((story) => close(out("refund")(story).claimed("toolu_0")))
        .when(router())
        .then((intents, story) => {
          says({ type: "tool-call.cancelled", toolUseId: "toolu_0", attempt: 1, reason: "closed" })(intents)
          story.cancelled("toolu_0")
          quiet(router()(story))
        })
    }
  })

  it("is left alone while the session may not be read far enough to say so", () => {
    given((story) => out("refund")(story).interrupted())
      .when((story) => router({ sessionsNext: story.toolCall("toolu_0").dispatch?.sessionOffset ?? 0 })(story))
      .then(quiet)
  })

  it("is left alone while it is wanted, or waits for its retry", () => {
    const cancels = (intents: readonly Intent[]): boolean => said(intents).some(({ type }) => type === "tool-call.cancelled")
    given(out("refund"))
      .when(router())
      .then((intents) => assert.equal(cancels(intents), false))
    // Its attempt is closed, and the next one replaces it there.
    given((story) => out("add")(story).timedOut("toolu_0", { retryAfterMs: 400 }))
      .when(router())
      .then((intents) => assert.equal(cancels(intents), false))
  })

  it("of an attempt that is over is cancelled once a later one is decided", () => {
    given((story) => out("add")(story).timedOut("toolu_0", { retryAfterMs: 0 }).dispatched("toolu_0"))
      .when(router())
      .then((intents) =>
        assert.deepEqual(
          said(intents)
            .map(({ type }) => type)
            .sort(),
          ["tool-call.cancelled", "tool-call.dispatched"],
        ),
      )
  })
})

const guarded = [
  tool("pay", { effect: "unsafe", backend: "http", permission: "always_ask", inputSchema: addSchema }),
  tool("look", { permission: "always_ask" }),
  tool("weather", { effect: "unsafe", backend: "client", claims: false, inputSchema: addSchema }),
  tool("add", { inputSchema: addSchema }),
  tool("send", { effect: "unsafe", backend: "http", onUnknown: "hold" }),
  tool("ask", { effect: "queryable", backend: "http", onUnknown: "hold" }),
  tool("tell", { effect: "unsafe", backend: "http", onUnknown: "tell" }),
]
const n1 = { n: 1 }

function calledGuarded(...names: readonly string[]): (story: Story) => Story {
  return (story) =>
    story
      .started(agent(guarded))
      .requested()
      .responded(names.map((name, n) => toolUse(`toolu_${n}`, name, n1)))
}

/** What the router says, in the log; then what it says next. */
function told(story: Story, sight: Sight = {}): Story {
  assertAccepted(
    story,
    router(sight)(story).filter((intent) => intent.do === "append" && intent.on === "sessions"),
  )
  return story
}

function answered(story: Story, toolUseId: string, decision: "allow" | "deny"): Story {
  const { eventId, sessionId, commandId, command } = story.draft((s) => s.rejected()) as SessionEventOf<"command.rejected">
  const call = story.call(toolUseId)
  const about = { toolUseId, decision, message: null, argumentsHash: sha256Hex(call.input), causedBy: holdOf(story.known, call) }
  story.tell(fact("approval.given", { eventId, sessionId, commandId, command, ...about }))
  assert.equal(story.verdict, "accepted")
  return story
}

function resultOf(story: Story, toolUseId: string): Story {
  const { eventId, sessionId, commandId, command } = story.draft((s) => s.rejected()) as SessionEventOf<"command.rejected">
  const causedBy = holdOf(story.known, story.call(toolUseId))
  return story.tell(fact("result.received", { eventId, sessionId, commandId, command, toolUseId, content: "[]", isError: false, causedBy }))
}

describe("a call that someone is asked about", () => {
  it("is held: for whom, with the arguments that are to be decided on, once", () => {
    for (const [name, reason] of [
      ["pay", "approval"],
      ["look", "approval"],
      ["weather", "client"],
    ] as const) {
      given(calledGuarded(name))
        .when(router())
        .then((intents, story) => {
          says({
            type: "tool-call.held",
            toolUseId: "toolu_0",
            tool: name,
            attempt: 0,
            reason,
            argumentsHash: sha256Hex('{"n":1}'),
            message: null,
            causedBy: story.known.response,
          })(intents)
          assert.deepEqual(router()(story), intents, "the same intent as long as it does not stand")
          assertAccepted(story, intents)
          quiet(router({ now: story.now + 86_400_000 })(story))
        })
    }
  })

  it("is refused first where there is anything to refuse: nobody is asked about what cannot be run", () => {
    given((story) =>
      story
        .started(agent(guarded))
        .requested()
        .responded([toolUse("a", "pay", { n: "1" }), toolUse("b", "weather", {}), toolUse("c", "sing", {})]),
    )
      .when(router())
      .then((intents, story) => {
        says(
          { type: "tool-call.refused", toolUseId: "a", code: "invalid_arguments" },
          { type: "tool-call.refused", toolUseId: "b", code: "invalid_arguments" },
          { type: "tool-call.refused", toolUseId: "c", code: "unknown_tool" },
        )(intents)
        assertAccepted(story, intents)
      })
    given((story) =>
      story
        .started(agent([tool("pay", { effect: "unsafe", claims: false, permission: "always_ask" })]))
        .requested()
        .responded([toolUse("a", "pay")]),
    )
      .when(router())
      .then(says({ type: "tool-call.refused", code: "unauthorized" }))
  })

  it("is charged like any other: the client's when it is held, another's when it leaves", () => {
    const limited =
      (toolCalls: number, ...names: readonly string[]) =>
      (story: Story) =>
        story
          .started(agent(guarded, { limits: { turns: 50, toolCalls, outputTokens: 1_000_000, wallClockMs: 600_000 } }))
          .requested()
          .responded(names.map((name, n) => toolUse(`toolu_${n}`, name, n1)))
    given(limited(2, "weather", "add", "weather", "add"))
      .when(router())
      .then((intents, story) => {
        says(
          { type: "tool-call.held", toolUseId: "toolu_0" },
          { type: "tool-call.dispatched", toolUseId: "toolu_1" },
          { type: "tool-call.refused", toolUseId: "toolu_2", code: "quota_exceeded" },
          { type: "tool-call.refused", toolUseId: "toolu_3", code: "quota_exceeded" },
        )(intents)
        assertAccepted(story, intents)
        assert.equal(story.known.toolCalls, 2)
      })
    given((story) => answered(answered(told(limited(1, "pay", "pay")(story)), "toolu_0", "allow"), "toolu_1", "allow"))
      .when(router())
      .then(
        says(
          { type: "tool-call.dispatched", toolUseId: "toolu_0" },
          { type: "tool-call.refused", toolUseId: "toolu_1", code: "quota_exceeded" },
        ),
      )
  })

  it("waits alone: the others of its response run meanwhile", () => {
    given(calledGuarded("pay", "add", "weather", "send"))
      .when(router())
      .then((intents, story) => {
        says(
          { type: "tool-call.held", toolUseId: "toolu_0", reason: "approval" },
          { type: "tool-call.dispatched", toolUseId: "toolu_1", attempt: 1 },
          { type: "tool-call.held", toolUseId: "toolu_2", reason: "client" },
          { type: "tool-call.dispatched", toolUseId: "toolu_3", attempt: 1 },
        )(intents)
        assertAccepted(story, intents)
        story.sent("toolu_1").finished("toolu_1").sent("toolu_3")
        says({ type: "tool-call.completed", toolUseId: "toolu_1" })(router()(story))
        assert.ok(!allHeld(story.known.calls))
      })
  })

  it("is dispatched under an allow, answered without one, and left alone by everything else", () => {
    given((story) => answered(told(calledGuarded("pay")(story)), "toolu_0", "allow"))
      .when(router())
      .then((intents, story) => {
        says({ type: "tool-call.dispatched", toolUseId: "toolu_0", attempt: 1, argumentsHash: sha256Hex('{"n":1}') })(intents)
        assertAccepted(story, intents)
      })
    given((story) => answered(calledGuarded("pay")(story), "toolu_0", "allow"))
      .when(router())
      .then((intents, story) => {
        // The answer came before the hold: there is nothing left to hold.
        says({ type: "tool-call.dispatched", toolUseId: "toolu_0" })(intents)
        assertAccepted(story, intents)
      })
    given((story) => answered(told(calledGuarded("pay")(story)), "toolu_0", "deny"))
      .when(router())
      .then((intents, story) => {
        quiet(intents)
        assert.ok(allDone(story.known.calls))
      })
    given((story) => resultOf(told(calledGuarded("weather")(story)), "toolu_0"))
      .when(router())
      .then((intents, story) => {
        quiet(intents)
        assert.ok(allDone(story.known.calls))
      })
    for (const stop of [(story: Story) => story.interrupted(), (story: Story) => story.ended(), (story: Story) => story.parked()])
      given((story) => stop(told(calledGuarded("pay", "weather")(story))))
        .when(router())
        .then(quiet)
  })

  it("is asked about again after a run that may have had an effect, and not after one that had none", () => {
    const ran = (effect: "none" | "maybe") => (story: Story) =>
      told(answered(told(calledGuarded("look")(story)), "toolu_0", "allow")).failed("toolu_0", { effect, retryAfterMs: 400 })
    given(ran("maybe"))
      .when(router())
      .then((intents, story) => {
        says({ type: "tool-call.held", toolUseId: "toolu_0", attempt: 1, reason: "approval", causedBy: story.known.response })(intents)
        assertAccepted(story, intents)
        quiet(router({ now: story.now + 60_000 })(story))
        answered(story, "toolu_0", "allow")
        says({ type: "tool-call.dispatched", attempt: 2 })(router()(story))
      })
    given(ran("none"))
      .when((story) => [router()(story), router({ now: story.now + 400 })(story)] as const)
      .then(([before, at], story) => {
        assert.deepEqual(before, [{ do: "wake", at: story.now + 400 }])
        says({ type: "tool-call.dispatched", attempt: 2 })(at)
      })
  })
})

describe("a call of which nobody knows what became of it", () => {
  const claimed = (name: string) => (story: Story) => calledGuarded(name)(story).dispatched("toolu_0").sent("toolu_0").claimed("toolu_0")
  const unknown = (name: string) => (story: Story) =>
    claimed(name)(story).finished("toolu_0", { outcome: "unknown", content: null, message: "The worker died." })

  it("is held for a person where its tool says so, and told to the model where not", () => {
    for (const name of ["send", "ask"])
      given(unknown(name))
        .when(router())
        .then((intents, story) => {
          const { state } = story.call("toolu_0")
          assert.ok(state.is === "dispatched")
          says({
            type: "tool-call.held",
            toolUseId: "toolu_0",
            tool: name,
            attempt: 1,
            reason: "outcome_unknown",
            message: "The worker died.",
            argumentsHash: sha256Hex('{"n":1}'),
            causedBy: state.eventId,
          })(intents)
          assertAccepted(story, intents)
          assert.ok(allHeld(story.known.calls))
          quiet(router({ now: story.now + 86_400_000 })(story))
        })
    given(unknown("tell"))
      .when(router())
      .then(says({ type: "tool-call.outcome-unknown", message: "The worker died." }))
  })

  it("is held also where its deadline passed: after the cancel is read back, or so long after that nobody can say", () => {
    const late = (ms: number) => (story: Story) => {
      const { state } = story.call("toolu_0")
      assert.ok(state.is === "dispatched")
      return router({ now: state.deadlineAt + ms })(story)
    }
    given(claimed("send"))
      .when(late(1))
      .then(says({ type: "tool-call.cancelled", reason: "deadline" }))
    given((story) => claimed("send")(story).cancelled("toolu_0"))
      .when(late(1))
      .then((intents, story) => {
        says({ type: "tool-call.held", reason: "outcome_unknown" })(intents)
        assertAccepted(story, intents)
        quiet(router()(story))
      })
    given((story) => calledGuarded("send")(story).dispatched("toolu_0").sent("toolu_0").cancelled("toolu_0"))
      .when(late(Number(toolsTopic.config["retention.ms"]) / 2))
      .then(says({ type: "tool-call.held", reason: "outcome_unknown" }))
    // Nothing had begun: there is nothing to ask about.
    given((story) => calledGuarded("send")(story).dispatched("toolu_0").sent("toolu_0").cancelled("toolu_0"))
      .when(late(1))
      .then(says({ type: "tool-call.timed-out", effect: "none" }))
  })

  it("runs again where a person allows it, once that stands; is closed by a denial or a result", () => {
    const held = (story: Story): Story => told(unknown("send")(story))
    given((story) => answered(held(story), "toolu_0", "allow"))
      .when(router())
      .then((intents, story) => {
        says({ type: "tool-call.dispatched", attempt: 2, toolUseId: "toolu_0" })(intents)
        assertAccepted(story, intents)
        assert.deepEqual(
          said(router()(story)).map((event) => [event.type, "attempt" in event && event.attempt]),
          [["tool-call.dispatched", 2]],
        )
      })
    given(held)
      .when((story) => {
        const settled = story.session
        answered(story, "toolu_0", "allow")
        return router({ settled })(story)
      })
      .then(quiet)
    for (const answer of [(story: Story) => answered(story, "toolu_0", "deny"), (story: Story) => resultOf(story, "toolu_0")])
      given((story) => answer(held(story)))
        .when(router())
        .then((intents, story) => {
          quiet(intents)
          assert.ok(allDone(story.known.calls))
        })
  })

  it("keeps its result where that comes after all, for the audit: what is held stays with the person", () => {
    given((story) => {
      told(claimed("send")(story).cancelled("toolu_0"), { now: story.now + 60_000 })
      assert.equal(story.call("toolu_0").state.is, "held")
      return story.tellTools(
        "http",
        toolFact("tool-call.finished", { sessionId: story.sessionId, toolUseId: "toolu_0", attempt: 1, eventId: "evt_late" }),
      )
    })
      .when(router())
      .then(quiet)
  })
})

describe("a session that is deleted", () => {
  it("has nothing routed any more, and what is open on a backend's topic is cancelled", () => {
    const gone = (story: Story): Story => {
      const { eventId, sessionId, commandId, command } = story.draft((s) => s.rejected()) as SessionEventOf<"command.rejected">
      return story.tell(fact("session.deleted", { eventId, sessionId, commandId, command }))
    }
    given((story) => gone(calledGuarded("pay", "add")(story)))
      .when(router())
      .then(quiet)
    given((story) => gone(out("refund")(story).claimed("toolu_0")))
      .when(router())
      .then((intents, story) => {
        says({ type: "tool-call.cancelled", toolUseId: "toolu_0", attempt: 1, reason: "closed" })(intents)
        story.cancelled("toolu_0")
        quiet(router()(story))
      })
  })
})
