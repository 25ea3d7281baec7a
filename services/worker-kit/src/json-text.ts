/** A text that is not made, since it would have at least so many characters. */
export interface TooLong {
  readonly atLeast: number
}

/**
 * The JSON text of a value, or word that it is longer than `charactersMax`. A value that is far too long is never made into text: what
 * its strings, arrays and buffers come to at least is counted on the way, by their lengths. Not bounded is what a `toJSON` or a getter
 * of the value makes by itself. May answer a text that is somewhat longer, since what is escaped and written out grows.
 * Undefined for what JSON leaves out. Throws, as JSON does, where it cannot say the value.
 */
export function jsonText(value: unknown, charactersMax: number): string | undefined | TooLong {
  let atLeast = 0
  const enough = new Error("It is too long.")
  const check = (count: number): void => {
    if (count <= charactersMax) return
    atLeast = count
    throw enough
  }
  try {
    check(bufferLength(value))
    return JSON.stringify(value, (_key, item: unknown) => {
      if (typeof item === "string") atLeast += item.length + 2
      else if (item !== undefined) atLeast++
      if (typeof item !== "object" || item === null) {
        check(atLeast)
        return item
      }
      // Of a typed array every element is written as a member, `"0":0,`.
      atLeast += Array.isArray(item) ? item.length : ArrayBuffer.isView(item) && "length" in item ? 4 * (item.length as number) : 0
      check(atLeast)
      // A buffer makes an array of its bytes before it is shown to us.
      if (!ArrayBuffer.isView(item)) for (const name in item) check(atLeast + bufferLength((item as Record<string, unknown>)[name]))
      return item
    })
  } catch (error) {
    if (error === enough) return { atLeast }
    throw error
  }
}

/** What the bytes of a buffer come to at least, `0,` each; 0 for anything else. */
function bufferLength(value: unknown): number {
  return Buffer.isBuffer(value) && value.toJSON === Buffer.prototype.toJSON ? 2 * value.byteLength : 0
}
