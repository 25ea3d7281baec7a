/** One frame of a stream of server-sent events; what it does not say is empty. */
export interface Frame {
  readonly id: string
  readonly event: string
  readonly data: string
}

/** Reads frames out of the bytes of a stream, in whatever pieces they come. Comments are skipped. */
export function createParser(): (bytes: Uint8Array) => readonly Frame[] {
  const decoder = new TextDecoder()
  let open = ""
  return (bytes) => {
    open += decoder.decode(bytes, { stream: true })
    const pieces = open.split("\n\n")
    open = pieces.pop() ?? ""
    return pieces.flatMap((piece) => {
      const fields = new Map<string, string>()
      for (const line of piece.split("\n")) {
        const match = /^(\w+): ?(.*)$/.exec(line)
        if (match !== null) fields.set(match[1] ?? "", match[2] ?? "")
      }
      if (!fields.has("data")) return []
      return [{ id: fields.get("id") ?? "", event: fields.get("event") ?? "", data: fields.get("data") ?? "" }]
    })
  }
}
