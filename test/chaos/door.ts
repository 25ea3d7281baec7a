import { connect, createServer, type Server, type Socket } from "node:net"

/** A door on the way to a server: shut, it lets nobody in; held, it takes connections and lets nothing through, as a server that hangs. */
export class Door {
  /** Connections that came while it was not open. */
  turnedAway = 0
  readonly #to: { readonly host: string; readonly port: number }
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #is: "open" | "shut" | "held" = "open"

  private constructor(to: { readonly host: string; readonly port: number }) {
    this.#to = to
    this.#server = createServer((client) => this.#accept(client))
  }

  static async before(url: URL): Promise<Door> {
    const door = new Door({ host: url.hostname, port: Number(url.port) })
    await new Promise<void>((resolve) => door.#server.listen(0, "127.0.0.1", resolve))
    return door
  }

  get port(): number {
    const address = this.#server.address()
    if (address === null || typeof address === "string") throw new Error("The door is not listening.")
    return address.port
  }

  shut(): void {
    this.#is = "shut"
    for (const socket of this.#sockets) socket.destroy()
  }

  hold(): void {
    this.#is = "held"
    for (const socket of this.#sockets) socket.pause()
  }

  /** What was held goes on. */
  reopen(): void {
    this.#is = "open"
    for (const socket of this.#sockets) socket.resume()
  }

  async stop(): Promise<void> {
    this.shut()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #accept(client: Socket): void {
    if (this.#is !== "open") this.turnedAway++
    if (this.#is === "shut") {
      client.destroy()
      return
    }
    const server = connect(this.#to)
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from)
      from.on("data", (chunk) => to.write(chunk))
      from.on("end", () => to.end())
      from.on("error", () => from.destroy())
      from.on("close", () => {
        this.#sockets.delete(from)
        to.destroy()
      })
      if (this.#is === "held") from.pause()
    }
  }
}
