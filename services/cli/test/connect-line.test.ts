import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { readLine } from "../src/connect-line.ts"
import { CliError } from "../src/fail.ts"
import type { WaitingCall } from "../src/waiting-calls.ts"

function waiting(toolUseId: string, reason: WaitingCall["reason"]): WaitingCall {
  const rest = { agent: "support", tool: "refund", arguments: "{}", argumentsHash: "hash", message: null }
  return { sessionId: "sesn_1", toolUseId, eventId: `sevt_${toolUseId}`, heldBy: `evt_${toolUseId}`, reason, ...rest }
}

const both = [waiting("toolu_1", "approval"), waiting("toolu_2", "client")]

function command(line: string, calls: readonly WaitingCall[] = both): Record<string, unknown> {
  const typed = readLine(line, "sesn_1", calls)
  assert.equal(typed.does, "command", line)
  return typed.does === "command" ? typed.command : {}
}

describe("a line typed into a session", () => {
  it("is a message, also one that begins with a slash written twice", () => {
    assert.deepEqual(command("  Hello there "), {
      type: "message.send",
      sessionId: "sesn_1",
      content: [{ type: "text", text: "Hello there" }],
    })
    assert.deepEqual(command("//etc/hosts")["content"], [{ type: "text", text: "/etc/hosts" }])
    assert.equal(readLine("   ", "sesn_1", both).does, "nothing")
  })

  it("answers a call, the only one or the one it names", () => {
    assert.deepEqual(command("/allow"), command("/allow toolu_1"))
    assert.equal(command("/allow")["decision"], "allow")
    assert.equal(command("/allow")["argumentsHash"], "hash")
    assert.equal(command("/deny")["message"], undefined)
    assert.equal(command("/deny toolu_1 too much")["message"], "too much")
    assert.equal(command("/deny sevt_toolu_1 too much")["message"], "too much")
    assert.equal(command("/deny too much")["message"], "too much")
    assert.equal(command("/deny too much")["toolUseId"], "toolu_1")
    assert.equal(command("/result toolu_2 sunny and warm")["toolUseId"], "toolu_2")
    assert.deepEqual(command("/result sunny and warm")["content"], [{ type: "text", text: "sunny and warm" }])
  })

  it("interrupts, and leaves", () => {
    assert.deepEqual(command("/interrupt"), { type: "session.interrupt", sessionId: "sesn_1" })
    assert.equal(readLine("/quit", "sesn_1", both).does, "quit")
  })

  it("says what is wrong with it, and does nothing then", () => {
    const wrong = (line: string, says: RegExp, calls = both): void => {
      assert.throws(
        () => readLine(line, "sesn_1", calls),
        (error) => error instanceof CliError && says.test(error.message),
        line,
      )
    }
    wrong("/alow", /There is no \/alow.*\/allow \[call\]/)
    wrong("/", /There is no \//)
    wrong("/result", /takes the text/)
    wrong("/result toolu_2", /takes the text/)
    wrong("/allow toolu_2", /run by the client/)
    wrong("/allow", /Nothing waits/, [])
    wrong("/allow", /2 calls wait/, [waiting("toolu_1", "approval"), waiting("toolu_3", "approval")])
  })
})
