import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Places } from "../src/places.ts"

describe("the low watermark", () => {
  // Found by the simulation: a tombstone was acknowledged before the record below it was read, which a successor then never read.
  it("stays below what is read after a tombstone that stands above it was acknowledged (W1)", () => {
    const places = new Places()
    places.read("s", 3, 0)
    places.readSnapshot("s", { at: 0, offset: 3, first: 3, newestCopy: 3, erasedTo: -1 })
    assert.equal(places.lowWatermark(4), 4)
    places.tombstoned("s", 3, 5)
    assert.equal(places.lowWatermark(4), 4, "what follows is not read yet")
    places.read("s", 4, 0)
    assert.equal(places.lowWatermark(6), 4)
    places.readSnapshot("s", { at: 1, offset: 5, first: 3, newestCopy: 4, erasedTo: 3 })
    assert.equal(places.lowWatermark(6), 6)
  })
})
