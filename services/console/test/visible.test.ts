import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { layOut, short, unfolded, visible, visibleProse } from "../app/visible.ts"

describe("text that is to be seen", () => {
  it("shows what would hide, turn the text around or control a terminal", () => {
    assert.equal(visible("\u001b[31mred"), "␛[31mred")
    assert.equal(visible("allow\u202eyned"), "allow⟨U+202E⟩yned")
    assert.equal(visible("a\u200bb\u2066c\ufeffd\u{e0041}"), "a⟨U+200B⟩b⟨U+2066⟩c⟨U+FEFF⟩d⟨U+E0041⟩")
    assert.equal(visible("a\0b\u0085c\u00add"), "a␀b⟨U+0085⟩c⟨U+00AD⟩d")
  })

  it("leaves lines, tabs and letters of every script alone", () => {
    const text = "größer\t東京\nمرحبا\r\nשלום 😀"
    assert.equal(visible(text), text.replace("\r", ""))
  })

  it("leaves prose the joiners that it needs, and nothing that turns it around", () => {
    const family = "👨\u200d👩\u200d👧 می\u200cخواهم"
    assert.equal(visibleProse(family), family)
    assert.notEqual(visible(family), family)
    assert.equal(visibleProse("x\u202ey"), "x⟨U+202E⟩y")
  })
})

describe("JSON that is laid out", () => {
  const compact = `{"a":[1,2.50,{}],"b":"x, {y}: \\"z\\" \\\\","c":[],"n":12345678901234567890,"a":null}`

  it("keeps every token as it is: numbers beyond doubles, keys given twice, strings that look like JSON", () => {
    const laidOut = layOut(compact)
    assert.match(laidOut, /\n {2}"a": \[\n {4}1,\n {4}2\.50,\n {4}\{\}\n {2}\],\n/)
    assert.match(laidOut, /12345678901234567890/)
    assert.equal(
      laidOut
        .split("\n")
        .map((line) => line.trim())
        .join("")
        .replaceAll('": ', '":'),
      compact,
    )
  })

  it("does not grow without measure where it nests, nor fail where it is none", () => {
    const deep = "[".repeat(20_000)
    assert.ok(layOut(deep).length < deep.length * 60)
    assert.equal(layOut('"open \\'), '"open \\')
    assert.doesNotThrow(() => layOut("]]}}"))
  })
})

describe("values made readable", () => {
  it("opens texts that hold JSON and leaves others", () => {
    assert.deepEqual(unfolded({ content: '[{"text":"{\\"a\\":1}"}]', broken: "[1,", plain: "17" }), {
      content: [{ text: { a: 1 } }],
      broken: "[1,",
      plain: "17",
    })
  })

  it("writes tokens short", () => {
    assert.deepEqual([0, 999, 1000, 12_345, 123_456, 3_100_000].map(short), ["0", "999", "1.0k", "12.3k", "123k", "3.1M"])
  })
})
