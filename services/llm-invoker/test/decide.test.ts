import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SessionEventOf } from "@reins/events"
import type { Intent } from "@reins/runtime"
import { type Sight, saidIn, viewOf } from "@reins/runtime/testing"
import { digestOf, holdOf, requestBodyHash, type Session, sha256Hex } from "@reins/session"
import { agent, fact, given, Story, text, tool, toolUse } from "@reins/session/testing"
import { defaultInvokerLimits } from "../src/config.ts"
import { decide, giveUp, type ModelCall } from "../src/decide.ts"

const limits = { ...defaultInvokerLimits, deadlineMs: 60_000, failuresMax: 3, attemptsMax: 5 }
const add = tool("add")

/** The invoker's decision on a story, as a process sees it. */
function invoker(sight: Sight = {}): (story: Story) => readonly Intent<ModelCall>[] {
  return (story) => decide(viewOf(story, sight), limits)
}

function quiet(intents: readonly Intent<ModelCall>[]): void {
  assert.deepEqual(intents, [])
}

/** Exactly one fact, and no effect. */
function says(fields: object): (intents: readonly Intent<ModelCall>[]) => void {
  return (intents) => {
    assert.equal(intents.filter(({ do: what }) => what === "perform").length, 0)
    const said = saidIn(intents)
    assert.equal(said.length, 1, JSON.stringify(intents))
    assert.partialDeepStrictEqual(said[0], fields)
  }
}

function wakes(at: number): (intents: readonly Intent<ModelCall>[]) => void {
  return (intents) => assert.deepEqual(intents, [{ do: "wake", at }])
}

const asked = (story: Story): Story => story.started(agent([add])).requested()
const failed = (story: Story): Story => asked(story).modelFailed({ retryAfterMs: 2000 })

describe("whose turn it is", () => {
  it("nobody's, in a session that was never started, has ended, is parked, or is about to be", () => {
    given(() => undefined)
      .when(invoker())
      .then(quiet)
    given((story) => asked(story).ended())
      .when(invoker())
      .then(quiet)
    given((story) => story.started().parked())
      .when(invoker())
      .then(quiet)
    given((story) => asked(story).responded([], { content: "no JSON" }))
      .when(invoker())
      .then(quiet)
  })

  it("a person's, while an idle session waits for input", () => {
    given((story) => story.started(agent(), { input: null }))
      .when(invoker())
      .then(quiet)
    given((story) =>
      asked(story)
        .responded([text("Done.")])
        .idled(),
    )
      .when(invoker())
      .then(quiet)
  })

  it("the tools', while a call is open", () => {
    const called = (story: Story): Story => asked(story).responded([toolUse("a", "add"), toolUse("b", "add")])
    given(called).when(invoker()).then(quiet)
    given((story) => called(story).dispatched("a").completed("a").dispatched("b"))
      .when(invoker())
      .then(quiet)
  })

  it("the model's, with everything that waits and the digest and hash of exactly that", () => {
    given((story) =>
      story
        .started(agent([add]))
        .message("Two.")
        .message("Three."),
    )
      .when(invoker())
      .then((intents, story) => {
        says({ type: "model.requested", turn: 1, attempt: 1, takes: 3, replaces: null, instance: "llm-invoker-1", deadlineMs: 60_000 })(
          intents,
        )
        const [said] = saidIn(intents)
        // What it says is what the fold accepts, and what it then asks has the hash that it said.
        story.tell({ ...story.draft((s) => s.requested()), ...said } as never)
        assert.equal(story.verdict, "accepted")
        assert.ok(said?.type === "model.requested")
        assert.equal(said.conversationDigest, digestOf(story.known.conversation))
        assert.equal(said.bodyHash, requestBodyHash(story.known.agent, story.known.conversation))
      })
  })

  it("the model's again, once all its calls are answered, or where it paused", () => {
    const done = (story: Story): Story =>
      asked(story)
        .responded([toolUse("a", "add")])
        .dispatched("a")
        .completed("a")
    given((story) => done(story).message("More."))
      .when(invoker())
      .then((intents, story) => says({ type: "model.requested", turn: 2, takes: 1, causedBy: story.known.response })(intents))
    given((story) => asked(story).responded([text("…")], { stopReason: "pause_turn" }))
      .when(invoker())
      .then(says({ type: "model.requested", turn: 2, takes: 0 }))
  })

  it("over, for the reason that the turn ended with", () => {
    given((story) => asked(story).responded([text("Done.")]))
      .when(invoker())
      .then(says({ type: "session.idled", turn: 1, reason: "end_turn", message: null }))
    given((story) => asked(story).responded([text("So")], { stopReason: "max_tokens" }))
      .when(invoker())
      .then(says({ type: "session.idled", reason: "max_tokens" }))
    given((story) => asked(story).interrupted())
      .when(invoker())
      .then(says({ type: "session.idled", reason: "interrupted" }))
  })

  it("decided the same however often it is asked, under one key", () => {
    given(failed)
      .when((story) => [
        invoker()(story),
        invoker()(story),
        invoker({ now: story.now + 2000 })(story),
        invoker({ now: story.now + 2500 })(story),
      ])
      .then(([first, again, due, later]) => {
        assert.deepEqual(again, first)
        assert.deepEqual(later, due)
      })
  })
})

describe("a turn whose calls are held", () => {
  const tools = [
    add,
    tool("pay", { effect: "unsafe", backend: "http", permission: "always_ask" }),
    tool("weather", { effect: "unsafe", backend: "client", claims: false }),
    tool("send", { effect: "unsafe", backend: "http", onUnknown: "hold" }),
  ]
  const called =
    (...names: readonly string[]) =>
    (story: Story): Story =>
      story
        .started(agent(tools))
        .requested()
        .responded(names.map((name, n) => toolUse("abcd".charAt(n), name)))

  const hold = (story: Story, toolUseId: string, reason: string): Story => {
    const { tool: name, attempt, input, state } = story.call(toolUseId)
    const { eventId, sessionId } = story.draft((s) => s.parked())
    const causedBy = state.is === "dispatched" ? state.eventId : story.known.response
    story.tell(
      fact("tool-call.held", {
        eventId,
        sessionId,
        causedBy,
        toolUseId,
        tool: name,
        attempt,
        reason,
        argumentsHash: sha256Hex(input),
        message: null,
      }),
    )
    assert.equal(story.verdict, "accepted")
    return story
  }
  const placed = (story: Story, toolUseId: string) => {
    const { eventId, sessionId, commandId, command } = story.draft((s) => s.rejected()) as SessionEventOf<"command.rejected">
    return { eventId, sessionId, commandId, command, toolUseId, causedBy: holdOf(story.known, story.call(toolUseId)) }
  }
  const decided = (story: Story, toolUseId: string, decision: "allow" | "deny"): Story => {
    const argumentsHash = sha256Hex(story.call(toolUseId).input)
    return story.tell(fact("approval.given", { ...placed(story, toolUseId), decision, message: null, argumentsHash }))
  }
  const answered = (story: Story, toolUseId: string): Story =>
    story.tell(fact("result.received", { ...placed(story, toolUseId), content: "[]", isError: false }))
  /** What the invoker says, in the log. */
  const told = (story: Story): Story => {
    const [said] = saidIn(invoker()(story))
    assert.ok(said !== undefined)
    story.tell({ ...story.draft((s) => s.parked()), ...said } as never)
    assert.equal(story.verdict, "accepted")
    return story
  }
  const heldTwice = (story: Story): Story => hold(hold(called("pay", "weather")(story), "a", "approval"), "b", "client")

  it("requires action once all that is open is held, whatever for: that is said, and said once", () => {
    for (const begin of [
      heldTwice,
      (story: Story) => hold(called("pay")(story), "a", "approval"),
      (story: Story) => hold(called("send")(story).dispatched("a"), "a", "outcome_unknown"),
      (story: Story) => hold(called("add", "pay")(story).dispatched("a").completed("a"), "b", "approval"),
    ])
      given(begin)
        .when(invoker())
        .then((intents, story) => {
          says({ type: "session.idled", turn: 1, reason: "requires_action", message: null, causedBy: story.known.response })(intents)
          assert.deepEqual(invoker()(story), intents, "the same intent as long as it does not stand")
          told(story)
          quiet(invoker({ now: story.now + 86_400_000 })(story))
          // Nothing that leaves the calls as they are makes it say so again.
          story.rejected()
          quiet(invoker()(story))
          // Except where it was said since that the session had stopped.
          story.parked().resumed()
          says({ type: "session.idled", reason: "requires_action" })(invoker()(story))
        })
  })

  it("goes on by itself while one of them is wanted or runs", () => {
    given((story) => hold(called("pay", "add")(story), "a", "approval"))
      .when(invoker())
      .then(quiet)
    given((story) => hold(called("pay", "add")(story).dispatched("b"), "a", "approval"))
      .when(invoker())
      .then(quiet)
    given((story) => hold(called("pay", "add")(story).dispatched("b").failed("b", { retryAfterMs: 60_000 }), "a", "approval"))
      .when(invoker())
      .then(quiet)
    given(called("pay", "weather")).when(invoker()).then(quiet)
  })

  it("goes on when it is answered: with the next request once all are, or waits again for what is left", () => {
    given((story) => answered(told(heldTwice(story)), "b"))
      .when(invoker())
      .then((intents, story) => {
        says({ type: "session.idled", reason: "requires_action" })(intents)
        quiet(invoker()(told(story)))
        decided(story, "a", "deny")
        says({ type: "model.requested", turn: 2, takes: 0, causedBy: story.known.response })(invoker()(story))
        told(story)
        assert.equal(story.session.phase, "awaiting-model")
      })
    given((story) => decided(told(heldTwice(story)), "a", "allow"))
      .when(invoker())
      .then((intents, story) => {
        quiet(intents)
        story.dispatched("a")
        quiet(invoker()(story))
        story.completed("a")
        says({ type: "session.idled", reason: "requires_action" })(invoker()(story))
      })
  })

  it("requires action again where the call that was allowed is held again", () => {
    given((story) => {
      told(hold(called("send")(story).dispatched("a"), "a", "outcome_unknown"))
      decided(story, "a", "allow")
      quiet(invoker()(story))
      hold(story.dispatched("a"), "a", "outcome_unknown")
    })
      .when(invoker())
      .then((intents, story) => {
        says({ type: "session.idled", turn: 1, reason: "requires_action" })(intents)
        quiet(invoker()(told(story)))
      })
  })

  it("is over where it is interrupted, and quiet where it is ended, deleted or parked", () => {
    given((story) => told(heldTwice(story)).interrupted())
      .when(invoker())
      .then(says({ type: "session.idled", reason: "interrupted" }))
    for (const stop of [
      (story: Story) => story.ended(),
      (story: Story) => story.parked(),
      (story: Story) => {
        const { eventId, sessionId, commandId, command } = placed(story, "a")
        return story.tell(fact("session.deleted", { eventId, sessionId, commandId, command }))
      },
    ])
      given((story) => stop(heldTwice(story)))
        .when(invoker())
        .then(quiet)
  })
})

describe("limits", () => {
  const limited = (fields: object) =>
    agent([add], { limits: { turns: 50, toolCalls: 50, outputTokens: 50_000, wallClockMs: 600_000, ...fields } })
  const turn = (story: Story): Story =>
    story
      .requested()
      .responded([text("Done.")])
      .idled()
      .message("More.")

  it("of turns, tokens, time and tool calls end the turn before the model is asked, in words", () => {
    given((story) => turn(story.started(limited({ turns: 1 }))))
      .when(invoker())
      .then(says({ type: "session.idled", turn: 1, reason: "limit_reached", message: "The session has had its 1 turns." }))
    given((story) => turn(story.started(limited({ outputTokens: 31 }))))
      .when(invoker())
      .then(says({ type: "session.idled", reason: "limit_reached", message: "The session has used 31 of its 31 output tokens." }))
    given((story) => story.started(limited({})))
      .when((story) => invoker({ now: story.known.startedAt + 600_000 })(story))
      .then(says({ type: "session.idled", reason: "limit_reached", message: "The session began more than 600000 ms ago." }))
    given((story) =>
      asked(story)
        .responded([toolUse("a", "add")])
        .refused("a", { code: "quota_exceeded" }),
    )
      .when(invoker())
      .then(says({ type: "session.idled", reason: "limit_reached" }))
  })

  it("let the last of what is allowed pass", () => {
    given((story) => turn(story.started(limited({ turns: 2 }))))
      .when(invoker())
      .then(says({ type: "model.requested", turn: 2 }))
    given((story) => turn(story.started(limited({ outputTokens: 32 }))))
      .when(invoker())
      .then(says({ type: "model.requested" }))
    given((story) => story.started(limited({})))
      .when((story) => invoker({ now: story.known.startedAt + 599_999 })(story))
      .then(says({ type: "model.requested" }))
  })

  it("are said once: what it says is accepted, and then it is quiet until something new is said", () => {
    given((story) => turn(story.started(limited({ turns: 1 }))))
      .when((story) => {
        const [said] = saidIn(invoker()(story))
        story.tell({ ...story.draft((s) => s.idled()), ...said } as never)
        assert.equal(story.verdict, "accepted")
        return invoker()(story)
      })
      .then((intents, story) => {
        quiet(intents)
        story.message("Please.")
        says({ type: "session.idled", reason: "limit_reached", causedBy: story.last.eventId })(invoker()(story))
      })
  })
})

describe("asking", () => {
  it("stands on the own claim as read back, once, with the session as the claim left it", () => {
    given(asked)
      .when(invoker())
      .then((intents, story) => {
        const session = story.session
        assert.ok(session.phase === "awaiting-model")
        assert.deepEqual(intents, [
          { do: "wake", at: session.request.deadlineAt + limits.deadlineMarginMs + 1 },
          { do: "perform", key: session.request.claim, work: { session }, stoppedBy: story.sessionId },
        ])
      })
  })

  it("never happens on a claim that is not read back, or that another reads as its own", () => {
    const performs = (intents: readonly Intent<ModelCall>[]): boolean => intents.some((intent) => intent.do === "perform")
    given((story) => story.started())
      .when((story) => {
        const settled = story.session
        story.requested()
        return invoker({ settled })(story)
      })
      .then((intents) => assert.equal(performs(intents), false))
    given(asked)
      .when(invoker({ instance: "llm-invoker-2" }))
      .then((intents) => assert.equal(performs(intents), false))
    given(asked)
      .when(invoker({ group: "another" }))
      .then((intents) => assert.equal(performs(intents), false))
  })

  it("never happens after the deadline, after a failure, or where the claim was taken over", () => {
    const performs = (intents: readonly Intent<ModelCall>[]): boolean => intents.some((intent) => intent.do === "perform")
    given(asked)
      .when((story) => {
        const { session } = story
        assert.ok(session.phase === "awaiting-model")
        return [invoker({ now: session.request.deadlineAt })(story), invoker({ now: session.request.deadlineAt + 1 })(story)]
      })
      .then(([at, after]) => assert.deepEqual([performs(at ?? []), performs(after ?? [])], [true, false]))
    given(failed)
      .when(invoker())
      .then((intents) => assert.equal(performs(intents), false))
    given((story) => asked(story).requested({ instance: "llm-invoker-2" }))
      .when(invoker())
      .then((intents) => assert.equal(performs(intents), false))
  })

  it("of an old claim does not go on while a newer one is on its way", () => {
    // Read back: ours, open. On its way: the answer. It still may be under way here; nothing else is said.
    given(asked)
      .when((story) => {
        const settled: Session = story.session
        story.responded([text("Done.")])
        return invoker({ settled })(story)
      })
      .then((intents) => assert.partialDeepStrictEqual(saidIn(intents), [{ type: "session.idled", reason: "end_turn" }]))
  })
})

describe("a conversation that nears the window", () => {
  const tooLarge = { kind: "request_too_large", retryable: false, message: "prompt is too long" } as const
  const usage = (tokens: number) => ({ inputTokens: 10, outputTokens: 10, cacheReadTokens: tokens - 20, cacheWriteTokens: 0 })
  const used = (tokens: number, story: Story): Story =>
    asked(story)
      .responded([text("Hello.")], { usage: usage(tokens) })
      .idled()
      .message("More.")

  /** The decision fits the story, as the fold sees it. */
  function fits(intents: readonly Intent<ModelCall>[], story: Story): void {
    story.tell({ ...story.draft((s) => s.rejected()), ...saidIn(intents)[0] } as never)
    assert.equal(story.verdict, "accepted")
  }

  it("is summarised before the next turn once four fifths of it are used, not before", () => {
    given((story) => used(159_999, story))
      .when(invoker())
      .then(says({ type: "model.requested", takes: 1, compacts: null }))
    given((story) => used(160_000, story))
      .when(invoker())
      .then((intents, story) => {
        says({ type: "model.requested", turn: 2, attempt: 1, takes: 1, compacts: 0 })(intents)
        fits(intents, story)
      })
  })

  it("has the window that its agent says", () => {
    given((story) =>
      story
        .started({ ...agent([add]), contextTokens: 1000 })
        .requested()
        .responded([toolUse("a", "add")], { usage: usage(800) })
        .dispatched("a")
        .completed("a"),
    )
      .when(invoker())
      .then(says({ type: "model.requested", takes: 0, compacts: 0 }))
  })

  it("goes on with the summary that the model gave", () => {
    given((story) =>
      used(160_000, story)
        .requested({ compacts: 0 })
        .responded([text("They greeted.")]),
    )
      .when(invoker())
      .then((intents, story) => {
        says({ type: "context.compacted", turn: 2, utterances: 2 })(intents)
        fits(intents, story)
        says({ type: "model.requested", turn: 3, takes: 0, compacts: null })(invoker()(story))
      })
  })

  it("is summarised from a transcript where a request did not fit, or its answer", () => {
    given((story) => asked(story).modelFailed(tooLarge))
      .when(invoker())
      .then((intents, story) => {
        says({ type: "model.requested", turn: 2, attempt: 1, takes: 0, compacts: 400_000, replaces: null })(intents)
        fits(intents, story)
      })
    given((story) => asked(story).responded([text("And so")], { stopReason: "model_context_window_exceeded" }))
      .when(invoker())
      .then((intents, story) => {
        says({ type: "model.requested", turn: 2, compacts: 400_000 })(intents)
        fits(intents, story)
      })
  })

  it("is cut to half where that does not fit either, until nothing is left to cut", () => {
    const long = JSON.stringify([text("So much is to be said. ".repeat(40_000))])
    const story = used(160_000, new Story())
      .requested({ compacts: null })
      .responded([], { content: long, usage: usage(160_000) })
      .idled()
      .message("More.")
      .requested({ compacts: 0 })
    const budgets: unknown[] = []
    for (;;) {
      story.modelFailed(tooLarge)
      const intents = decide(viewOf(story, {}), { ...limits, attemptsMax: 20 })
      const [said] = saidIn(intents) as readonly { readonly type: string; readonly reason?: string; readonly compacts?: number }[]
      budgets.push(said?.compacts ?? said?.reason)
      if (said?.type !== "model.requested") break
      fits(intents, story)
    }
    assert.deepEqual(budgets, [400_000, 200_000, 100_000, 50_000, 25_000, 12_500, 6250, 3125, "context_window_exceeded"])
  })

  it("that is short is not sent again and again in the same bytes", () => {
    given((story) => used(160_000, story).requested({ compacts: 400_000 }).modelFailed(tooLarge))
      .when(invoker())
      .then(says({ type: "session.idled", reason: "context_window_exceeded" }))
  })

  it("is given up where two summaries in a row brought no answer", () => {
    given((story) => {
      asked(story)
      for (let n = 0; n < 2; n++)
        story
          .modelFailed(tooLarge)
          .requested({ compacts: 2000 })
          .responded([text("S.")])
          .compacted()
          .requested()
      story.modelFailed(tooLarge)
    })
      .when(invoker())
      .then(says({ type: "session.idled", reason: "context_window_exceeded", message: "prompt is too long" }))
  })

  it("is not summarised where a limit of the session ends it anyway", () => {
    const short = { ...agent([add]), limits: { ...agent([add]).limits, turns: 1 } }
    given((story) => story.started(short).requested().modelFailed(tooLarge))
      .when(invoker())
      .then(says({ type: "session.idled", reason: "limit_reached" }))
  })
})

describe("a failed attempt", () => {
  it("is tried again after its time, not before", () => {
    given(failed)
      .when((story) => invoker({ now: story.now + 1999 })(story))
      .then((intents, story) => wakes(story.now + 2000)(intents))
    given(failed)
      .when((story) => invoker({ now: story.now + 2000 })(story))
      .then((intents, story) => {
        says({ type: "model.requested", turn: 1, attempt: 2, takes: 0, replaces: null })(intents)
        story.tell({ ...story.draft((s) => s.requested()), ...saidIn(intents)[0] } as never)
        assert.equal(story.verdict, "accepted")
      })
  })

  it("waits for its place in the log: its time counts from there", () => {
    given(asked)
      .when((story) => {
        const settled = story.session
        story.modelFailed({ retryAfterMs: 2000 })
        return invoker({ settled, now: story.now + 50_000 })(story)
      })
      .then((intents) => assert.deepEqual(saidIn(intents), []))
  })

  it("that no retry mends ends the turn at once, with what the provider said", () => {
    given((story) => asked(story).modelFailed({ kind: "authentication_error", retryable: false, message: "invalid x-api-key" }))
      .when(invoker())
      .then(says({ type: "session.idled", reason: "model_error", message: "invalid x-api-key" }))
  })

  it("is the last after so many failures, or attempts of any kind", () => {
    given((story) => {
      asked(story)
      for (let n = 1; n < limits.failuresMax; n++) story.modelFailed({ retryAfterMs: 0 }).requested()
      story.modelFailed({ message: "Overloaded" })
    })
      .when(invoker())
      .then(says({ type: "session.idled", reason: "retries_exhausted", message: "Overloaded" }))
    given((story) => {
      asked(story)
      for (let n = 1; n < limits.attemptsMax; n++) story.modelFailed({ kind: "given_up", retryAfterMs: 0 }).requested()
      story.modelFailed({ kind: "given_up", retryAfterMs: 0 })
    })
      .when(invoker())
      .then(says({ type: "session.idled", reason: "retries_exhausted" }))
  })

  it("that was given up counts for nothing: the next is due at once", () => {
    given((story) => {
      asked(story)
      for (let n = 1; n < limits.failuresMax; n++) story.modelFailed({ kind: "given_up", retryAfterMs: 0 }).requested()
      story.modelFailed({ kind: "given_up", retryAfterMs: 0 })
    })
      .when(invoker())
      .then(says({ type: "model.requested", attempt: limits.failuresMax + 1 }))
  })

  it("is counted anew in the next turn", () => {
    given((story) =>
      failed(story)
        .requested()
        .responded([text("Done.")])
        .idled()
        .message("More.")
        .requested()
        .modelFailed(),
    )
      .when((story) => story.session)
      .then((session) => assert.ok(session.phase === "awaiting-model" && session.request.failures === 1))
  })
})

describe("an open claim of another", () => {
  it("is waited for while its instance is a member", () => {
    given(asked)
      .when(invoker({ instance: "llm-invoker-2" }))
      .then((intents, story) => {
        const { session } = story
        assert.ok(session.phase === "awaiting-model")
        wakes(session.request.deadlineAt + limits.deadlineMarginMs + 1)(intents)
      })
  })

  it("is taken over, by name, once its instance is gone", () => {
    given(asked)
      .when(invoker({ instance: "llm-invoker-2", gone: ["llm-invoker-1"] }))
      .then((intents, story) => {
        const { session } = story
        assert.ok(session.phase === "awaiting-model")
        says({ type: "model.requested", turn: 1, attempt: 2, takes: 0, replaces: session.request.claim, instance: "llm-invoker-2" })(
          intents,
        )
        story.tell({ ...story.draft((s) => s.requested()), ...saidIn(intents)[0] } as never)
        assert.equal(story.verdict, "accepted")
      })
  })

  it("is not taken over for ever: a request that ends every process that makes it ends the turn", () => {
    given((story) => {
      asked(story)
      for (let n = 1; n < limits.attemptsMax; n++) story.requested({ instance: `gone-${n}` })
    })
      .when(invoker({ gone: [`gone-${limits.attemptsMax - 1}`] }))
      .then(says({ type: "model.failed", kind: "abandoned", retryable: false, attempt: limits.attemptsMax }))
  })

  it("that hangs, and lives, is closed after its deadline and a margin", () => {
    const after = (ms: number) => (story: Story) => {
      const { session } = story
      assert.ok(session.phase === "awaiting-model")
      return invoker({ instance: "llm-invoker-2", now: session.request.deadlineAt + ms })(story)
    }
    given(asked)
      .when(after(limits.deadlineMarginMs))
      .then((intents) => assert.deepEqual(saidIn(intents), []))
    given(asked)
      .when(after(limits.deadlineMarginMs + 1))
      .then((intents, story) => {
        says({ type: "model.failed", kind: "deadline", retryable: true, turn: 1, attempt: 1 })(intents)
        story.tell({ ...story.draft((s) => s.modelFailed()), ...saidIn(intents)[0] } as never)
        assert.equal(story.verdict, "accepted")
      })
  })
})

describe("giving up", () => {
  // Found by the simulation: a claim landed after its own giving up, and its claimant lived: everyone waited for the deadline.
  it("is said again of a claim that landed after it, by whoever owns the session", () => {
    for (const instance of ["llm-invoker-1", "llm-invoker-2"])
      given(asked)
        .when((story) => decide(viewOf(story, { instance, givenUp: [story.last.eventId], begun: [story.last.eventId] }), limits))
        .then((intents, story) => {
          const [first] = saidIn(intents)
          assert.partialDeepStrictEqual(first, { type: "model.failed", kind: "given_up", claim: story.last.eventId, retryAfterMs: 0 })
          story.tell({ ...story.draft((s) => s.modelFailed()), ...first } as never)
          assert.equal(story.verdict, "accepted")
          assert.equal(saidIn(decide(viewOf(story, { instance }), limits))[0]?.type, "model.requested")
        })
  })

  it("says so for the own claim that has not begun, and for nothing else", () => {
    given(asked)
      .when((story) => giveUp(viewOf(story)))
      .then((drafts, story) => {
        assert.equal(drafts.length, 1)
        assert.partialDeepStrictEqual(drafts[0], {
          on: "sessions",
          event: { type: "model.failed", kind: "given_up", retryable: true, retryAfterMs: 0 },
        })
        story.tell({ ...story.draft((s) => s.modelFailed()), ...drafts[0]?.event } as never)
        assert.equal(story.verdict, "accepted")
      })
    given(asked)
      .when((story) => giveUp(viewOf(story, { begun: [story.last.eventId] })))
      .then((drafts) => assert.deepEqual(drafts, []))
    given(asked)
      .when((story) => giveUp(viewOf(story, { instance: "llm-invoker-2" })))
      .then((drafts) => assert.deepEqual(drafts, []))
    given(failed)
      .when((story) => giveUp(viewOf(story)))
      .then((drafts) => assert.deepEqual(drafts, []))
  })
})
