import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { askAbout } from "../src/ask-person.ts"
import type { CommandGiven } from "../src/harness.ts"
import type { WaitingCall } from "../src/waiting-calls.ts"

function waiting(toolUseId: string, reason: WaitingCall["reason"]): WaitingCall {
  const rest = { agent: "support", tool: "refund", arguments: '{"cents":500}', argumentsHash: "hash", message: null }
  return { sessionId: "sesn_1", toolUseId, eventId: `sevt_${toolUseId}`, heldBy: `evt_${toolUseId}`, reason, ...rest }
}

/** A person who says these words in turn, and then nothing more. */
async function asked(
  calls: readonly WaitingCall[],
  words: readonly string[],
): Promise<{ readonly given: readonly CommandGiven[]; readonly questions: readonly string[]; readonly said: string }> {
  const questions: string[] = []
  const said: string[] = []
  const left = [...words]
  const ask = async (question: string): Promise<string | null> => {
    questions.push(question)
    return left.shift() ?? null
  }
  const given = await askAbout(calls, ask, (text) => said.push(text))
  assert.deepEqual(left, [], "every word was asked for")
  return { given, questions, said: said.join("\n") }
}

describe("a person at a terminal", () => {
  const both = [waiting("toolu_1", "approval"), waiting("toolu_2", "client")]

  it("is shown each call and gives an answer that fits it", async () => {
    const { given, questions, said } = await asked(both, ["a", "r", "sunny"])
    assert.match(said, /toolu_1 {2}refund\(\{"cents":500\}\)/)
    assert.deepEqual(
      given.map(({ type, toolUseId, decision }) => [type, toolUseId, decision]),
      [
        ["approval.give", "toolu_1", "allow"],
        ["result.give", "toolu_2", undefined],
      ],
    )
    assert.doesNotMatch(questions[0] ?? "", /result/)
    assert.doesNotMatch(questions[1] ?? "", /allow|deny/)
  })

  it("denies with a reason or without", async () => {
    assert.equal((await asked(both, ["deny", " too much ", "leave"])).given[0]?.["message"], "too much")
    assert.ok(!("message" in ((await asked(both, ["d", "", "l"])).given[0] ?? {})))
  })

  it("allows nothing by a word that is not the one", async () => {
    for (const word of ["y", "yes", "", "allow it", "r"]) {
      const { given } = await asked([waiting("toolu_1", "approval")], [word, "l"])
      assert.deepEqual(given, [], word)
    }
  })

  it("may leave it, or leave", async () => {
    assert.deepEqual((await asked(both, ["l", "leave"])).given, [])
    assert.deepEqual((await asked(both, [])).given, [])
    // Half an answer is none.
    assert.deepEqual((await asked([waiting("toolu_1", "approval")], ["d"])).given, [])
  })

  it("says what became of a call whose outcome nobody knows, or lets it run again", async () => {
    const unknown = [waiting("toolu_1", "outcome_unknown")]
    assert.equal((await asked(unknown, ["r", "it was paid"])).given[0]?.type, "result.give")
    assert.equal((await asked(unknown, ["a"])).given[0]?.["decision"], "allow")
  })
})
